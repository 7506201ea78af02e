"""Mutations inside one expression."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.kinds import SEQUENCES, WHOLE
from wmtp_ray.data.sources.mini.rewrites.conditions import negate, shifted
from wmtp_ray.data.sources.mini.rewrites.loops import range_bounds
from wmtp_ray.data.sources.mini.trees import (
    Edit,
    Program,
    Slot,
    clone,
    enclosing_function,
    functions,
    own_nodes,
    same,
    slots,
)

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq, ast.LtE, ast.GtE),
    ast.NotEq: (ast.Eq, ast.Lt, ast.Gt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mod, ast.Mult),
    ast.Mod: (ast.FloorDiv,),
    ast.Div: (ast.FloorDiv, ast.Mult),
    ast.Pow: (ast.Mult,),
    ast.BitXor: (ast.BitOr,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd, ast.BitXor),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
_ONE_WAY = (ast.Sub, ast.FloorDiv, ast.Mod, ast.Div, ast.Pow)
_ORDERED_ARGUMENTS = frozenset({"pow", "divmod", "zip"})
"""Functions of the language whose arguments can be swapped without a mere TypeError."""
_TWINS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "startswith": "endswith",
    "endswith": "startswith",
    "lower": "upper",
    "upper": "lower",
    "lstrip": "rstrip",
    "rstrip": "lstrip",
    "islower": "isupper",
    "isupper": "islower",
    "isdigit": "isalpha",
    "isalpha": "isdigit",
    "find": "rfind",
    "rfind": "find",
    "keys": "values",
    "values": "keys",
    "append": "extend",
    "pop": "popleft",
    "popleft": "pop",
}


def constant_off_by_one(program: Program) -> Iterator[Edit]:
    """A number becomes one more or one less."""
    for slot in slots(program.tree):
        node = slot.node
        if isinstance(node, ast.Constant) and type(node.value) is int:
            divides = isinstance(slot.parent, (ast.BinOp, ast.AugAssign)) and isinstance(
                slot.parent.op, (ast.FloorDiv, ast.Mod, ast.Mult, ast.Pow)
            )
            least = (
                2 if divides else 1 if isinstance(slot.parent, (ast.UnaryOp, ast.BinOp, ast.AugAssign)) else 0
            )
            for value in (node.value - 1, node.value + 1):
                if value >= least:
                    yield lambda slot=slot, value=value: slot.replace(ast.Constant(value))


def comparison(program: Program) -> Iterator[Edit]:
    """Another comparison: `<` becomes `<=` or `>`, `==` becomes `!=`, `in` becomes `not in`."""
    for slot in slots(program.tree):
        if isinstance(slot.node, ast.Compare):
            for index, operator in enumerate(slot.node.ops):
                ordered = program.are(WHOLE, slot.node.comparators[index])
                for other in _COMPARISONS[type(operator)]:
                    if (
                        ordered
                        or not isinstance(operator, (ast.Eq, ast.NotEq))
                        or other in (ast.Eq, ast.NotEq)
                    ):
                        yield lambda node=slot.node, index=index, other=other: node.ops.__setitem__(
                            index, other()
                        )


def arithmetic(program: Program) -> Iterator[Edit]:
    """Another operator: `+` becomes `-`, `//` becomes `%`; of `+` only where it adds numbers."""
    for node in _operations(program):
        right = node.right if isinstance(node, ast.BinOp) else node.value
        numeric = program.kind(right).name in WHOLE | {"float", "any"}
        if numeric or not isinstance(node.op, (ast.Add, ast.Mult)):
            for other in _ARITHMETIC.get(type(node.op), ()):
                yield lambda node=node, other=other: setattr(node, "op", other())


def _operations(program: Program) -> Iterator[ast.BinOp | ast.AugAssign]:
    for slot in slots(program.tree):
        if isinstance(slot.node, ast.BinOp):
            yield slot.node
        elif isinstance(slot.parent, ast.AugAssign) and slot.field_name == "value":
            yield slot.parent


def boolean(program: Program) -> Iterator[Edit]:
    """`and` becomes `or`, and back."""
    for slot in slots(program.tree):
        if isinstance(slot.node, ast.BoolOp):
            other = ast.Or() if isinstance(slot.node.op, ast.And) else ast.And()
            yield lambda node=slot.node, other=other: setattr(node, "op", other)


def negated_condition(program: Program) -> Iterator[Edit]:
    """The condition of an `if`, of a conditional expression or of a comprehension is negated."""
    for slot in slots(program.tree):
        tested = slot.field_name == "test" and isinstance(slot.parent, (ast.If, ast.IfExp))
        if tested or (isinstance(slot.parent, ast.comprehension) and slot.field_name == "ifs"):
            yield lambda slot=slot: slot.replace(negate(slot.node, program))


def wrong_variable(program: Program) -> Iterator[Edit]:
    """A name is read where another one, of the same kind and bound earlier in the function, is meant."""
    for slot in slots(program.tree):
        node = slot.node
        if not isinstance(node, ast.Name) or (
            isinstance(slot.parent, ast.Call) and slot.field_name == "func"
        ):
            continue
        kind = program.kind(node)
        for other in _bound_before(program, slot):
            to_itself = isinstance(slot.parent, ast.Assign) and _is_name(slot.parent.targets[0], other)
            if other != node.id and not to_itself and program.kinds.get(other, kind) == kind:
                yield lambda slot=slot, other=other: slot.replace(ast.Name(other, ast.Load()))


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _bound_before(program: Program, slot: Slot) -> list[str]:
    """Parameters, and names that the function assigns before this place, sorted; no comprehension's names."""
    function = (
        enclosing_function(program.tree, slot.parent) if slot.parent not in program.tree.body else slot.parent
    )
    if not isinstance(function, ast.FunctionDef):
        return []
    bound = {argument.arg for argument in function.args.args}
    inner = {
        id(child)
        for node in own_nodes(function)
        if isinstance(node, (ast.comprehension, ast.Lambda))
        for child in ast.walk(node)
    }
    for node in own_nodes(function):
        if node is slot.node:
            break
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inner:
            bound.add(node.id)
    return sorted(bound)


def range_bound(program: Program) -> Iterator[Edit]:
    """A `range` begins or ends one too early or too late."""
    for slot in slots(program.tree):
        bounds = range_bounds(slot.node)
        if bounds is None or not isinstance(slot.node, ast.Call):
            continue
        start, stop, _ = bounds
        rest = slot.node.args[2:]
        for first, last in (
            (start, shifted(stop, 1)),
            (start, shifted(stop, -1)),
            (shifted(start, 1), stop),
            (shifted(start, -1), stop),
        ):
            zero = isinstance(first, ast.Constant) and first.value == 0 and not rest
            call = ast.Call(
                clone(slot.node.func), [clone(last)] if zero else [clone(first), clone(last), *rest], []
            )
            yield lambda slot=slot, call=call: slot.replace(call)


def swapped_operands(program: Program) -> Iterator[Edit]:
    """`a - b` becomes `b - a`, `f(a, b)` becomes `f(b, a)`, `x[a:b]` becomes `x[b:a]`."""
    own = {function.name for function in functions(program.tree)}
    for slot in slots(program.tree):
        match slot.node:
            case ast.BinOp(left=a, op=operator, right=b) if isinstance(operator, _ONE_WAY):
                if not isinstance(operator, ast.Mod) or program.are(WHOLE, a):
                    yield lambda slot=slot, new=ast.BinOp(b, operator, a): slot.replace(new)
            case ast.BinOp(left=a, op=ast.Add(), right=b) if program.are(SEQUENCES, a, b) and not same(a, b):
                yield lambda slot=slot, new=ast.BinOp(b, ast.Add(), a): slot.replace(new)
            case ast.Call(args=[a, b, *rest], func=function, keywords=keywords) if not same(a, b):
                if isinstance(function, ast.Name) and function.id in own | _ORDERED_ARGUMENTS:
                    yield lambda slot=slot, new=ast.Call(function, [b, a, *rest], keywords): slot.replace(new)
            case ast.Slice(lower=ast.expr() as a, upper=ast.expr() as b):
                yield lambda slot=slot, new=ast.Slice(b, a, slot.node.step): slot.replace(new)


def shifted_index(program: Program) -> Iterator[Edit]:
    """`x[i]` becomes `x[i + 1]` or `x[i - 1]`; a bound of a slice moves by one."""
    for slot in slots(program.tree):
        indexed = isinstance(slot.parent, ast.Subscript) and slot.field_name == "slice"
        bounds = isinstance(slot.parent, ast.Slice) and slot.field_name != "step"
        plain = isinstance(slot.node, (ast.Name, ast.BinOp))
        if (indexed or bounds) and plain and program.are(WHOLE, slot.node):
            for amount in (1, -1):
                yield lambda slot=slot, amount=amount: slot.replace(shifted(slot.node, amount))


def dropped_bound(program: Program) -> Iterator[Edit]:
    """A bound of a slice, or a condition of several in a comprehension or `and`/`or`, is forgotten."""
    for slot in slots(program.tree):
        node = slot.node
        if isinstance(node, ast.Slice) and node.step is None:
            if node.lower is not None:
                yield lambda slot=slot, new=ast.Slice(None, node.upper): slot.replace(new)
            if node.upper is not None:
                yield lambda slot=slot, new=ast.Slice(node.lower, None): slot.replace(new)
        elif isinstance(node, ast.BoolOp):
            for index in range(len(node.values)):
                kept = node.values[:index] + node.values[index + 1 :]
                new = kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)
                yield lambda slot=slot, new=new: slot.replace(new)


def added_condition(program: Program) -> Iterator[Edit]:
    """A condition asks for one thing too many: `if c` becomes `if c and x`, with an `x` that is bound there."""
    for slot in slots(program.tree):
        if slot.field_name == "test" and isinstance(slot.parent, (ast.If, ast.IfExp)):
            for other in _bound_before(program, slot):
                if program.kinds.get(other) is not None and program.kinds[other].name in WHOLE | SEQUENCES:
                    extra = ast.Name(other, ast.Load())
                    for operator in (ast.And(), ast.Or()):
                        new = ast.BoolOp(operator, [clone(slot.node), extra])
                        yield lambda slot=slot, new=new: slot.replace(new)


def twin_function(program: Program) -> Iterator[Edit]:
    """`min` becomes `max`, `lower` becomes `upper`, `any` becomes `all`, `append` becomes `extend`."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.Call(func=ast.Name(id=name) as function) if name in _TWINS:
                yield lambda function=function, name=name: setattr(function, "id", _TWINS[name])
            case ast.Call(func=ast.Attribute(attr=name) as function) if name in _TWINS:
                deque_only = name == "pop" and program.kind(function.value).name == "list"
                if not deque_only and (name != "append" or program.are(SEQUENCES, slot.node.args[0])):
                    yield lambda function=function, name=name: setattr(function, "attr", _TWINS[name])


def extra_arithmetic(program: Program) -> Iterator[Edit]:
    """A whole number is taken one too large or one too small: `n // 2` becomes `n // 2 + 1`."""
    for slot in slots(program.tree):
        taken = isinstance(slot.parent, (ast.Assign, ast.Return, ast.Compare))
        if taken and isinstance(slot.node, (ast.Call, ast.BinOp)) and program.are({"int"}, slot.node):
            for amount in (1, -1):
                yield lambda slot=slot, amount=amount: slot.replace(shifted(slot.node, amount))
