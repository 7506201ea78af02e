"""Rewrites of conditions and of the statements that branch on them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.kinds import ORDERED, WHOLE
from wmtp_ray.data.sources.mini.trees import EXITS, Edit, Program, Slot, blocks, clone, is_pure, same, slots

MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ORDERING = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def negate(test: ast.expr, program: Program) -> ast.expr:
    """An expression that is true exactly when `test` is false; only its truth counts, not its value."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return clone(test.operand)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        operator, right = test.ops[0], test.comparators[0]
        total = program.are(ORDERED, test.left, right)  # sets are ordered only partially
        if not isinstance(operator, _ORDERING) or total:
            return ast.Compare(clone(test.left), [OPPOSITE[type(operator)]()], [clone(right)])
    return ast.UnaryOp(ast.Not(), clone(test))


def swap_comparison(program: Program) -> Iterator[Edit]:
    """`a < b` → `b > a`."""
    for slot in slots(program.tree):
        node = slot.node
        if (
            isinstance(node, ast.Compare)
            and len(node.ops) == 1
            and type(node.ops[0]) in MIRRORED
            and is_pure(node)
        ):
            mirrored = ast.Compare(node.comparators[0], [MIRRORED[type(node.ops[0])]()], [node.left])
            yield lambda slot=slot, new=mirrored: slot.replace(new)


def invert_branches(program: Program) -> Iterator[Edit]:
    """`if c: A else: B` → `if not c: B else: A`, and the same for conditional expressions."""
    for node in ast.walk(program.tree):
        if isinstance(node, (ast.If, ast.IfExp)) and node.orelse:

            def edit(node: ast.If | ast.IfExp = node) -> None:
                node.test = negate(node.test, program)
                node.body, node.orelse = node.orelse, node.body  # pyright: ignore[reportAttributeAccessIssue]

            yield edit


def drop_else(program: Program) -> Iterator[Edit]:
    """`if c: ...return` `else: B` → `if c: ...return` `B`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if isinstance(node, ast.If) and node.orelse and isinstance(node.body[-1], EXITS):

                def edit(
                    block: list[ast.stmt] = block, position: int = position, node: ast.If = node
                ) -> None:
                    block[position + 1 : position + 1] = node.orelse
                    node.orelse = []

                yield edit


def add_else(program: Program) -> Iterator[Edit]:
    """`if c: ...return` `rest` → `if c: ...return` `else: rest`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block[:-1]):
            if isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], EXITS):

                def edit(
                    block: list[ast.stmt] = block, position: int = position, node: ast.If = node
                ) -> None:
                    node.orelse = block[position + 1 :]
                    del block[position + 1 :]

                yield edit


def guard_loop_body(program: Program) -> Iterator[Edit]:
    """A loop body that ends in `if c: A` → `if not c: continue` `A`."""
    for loop in ast.walk(program.tree):
        if not isinstance(loop, (ast.For, ast.While)):
            continue
        last = loop.body[-1]
        if isinstance(last, ast.If) and not last.orelse and len(last.body) > 1:

            def edit(loop: ast.For | ast.While = loop, last: ast.If = last) -> None:
                loop.body[-1:] = [ast.If(negate(last.test, program), [ast.Continue()], []), *last.body]

            yield edit


def de_morgan(program: Program) -> Iterator[Edit]:
    """`not (a and b)` → `not a or not b`, and a test `a and b` → `not (not a or not b)`."""
    for slot in slots(program.tree):
        node = slot.node
        negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        inner = node.operand if isinstance(node, ast.UnaryOp) and negated else node
        if isinstance(inner, ast.BoolOp) and (negated or _is_test(slot)):
            operator = ast.Or() if isinstance(inner.op, ast.And) else ast.And()
            flipped = ast.BoolOp(operator, [negate(value, program) for value in inner.values])
            new = flipped if negated else ast.UnaryOp(ast.Not(), flipped)
            yield lambda slot=slot, new=new: slot.replace(new)


def nest_conditions(program: Program) -> Iterator[Edit]:
    """`if a and b: X` → `if a: if b: X`."""
    for node in ast.walk(program.tree):
        match node:
            case ast.If(test=ast.BoolOp(op=ast.And()) as test, orelse=[]):

                def edit(node: ast.If = node, test: ast.BoolOp = test) -> None:
                    rest = test.values[1] if len(test.values) == 2 else ast.BoolOp(ast.And(), test.values[1:])
                    node.body = [ast.If(rest, node.body, [])]
                    node.test = test.values[0]

                yield edit


def merge_conditions(program: Program) -> Iterator[Edit]:
    """`if a: if b: X` → `if a and b: X`."""
    for node in ast.walk(program.tree):
        if isinstance(node, ast.If) and not node.orelse and len(node.body) == 1:
            inner = node.body[0]
            if isinstance(inner, ast.If) and not inner.orelse:

                def edit(node: ast.If = node, inner: ast.If = inner) -> None:
                    node.test = ast.BoolOp(ast.And(), [node.test, inner.test])
                    node.body = inner.body

                yield edit


def split_chain(program: Program) -> Iterator[Edit]:
    """`a <= x < b` → `a <= x and x < b`."""
    for slot in slots(program.tree):
        node = slot.node
        if isinstance(node, ast.Compare) and len(node.ops) == 2 and is_pure(node):
            middle = node.comparators[0]
            parts: list[ast.expr] = [
                ast.Compare(node.left, [node.ops[0]], [middle]),
                ast.Compare(clone(middle), [node.ops[1]], [node.comparators[1]]),
            ]
            yield lambda slot=slot, parts=parts: slot.replace(ast.BoolOp(ast.And(), parts))


def merge_chain(program: Program) -> Iterator[Edit]:
    """`a <= x and x < b` → `a <= x < b`."""
    for slot in slots(program.tree):
        node = slot.node
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And) and len(node.values) == 2:
            first, second = node.values
            if (
                isinstance(first, ast.Compare)
                and isinstance(second, ast.Compare)
                and len(first.ops) == len(second.ops) == 1
                and type(second.ops[0]) in MIRRORED
                and same(first.comparators[0], second.left)
                and is_pure(second.left)
            ):
                chain = ast.Compare(
                    first.left, first.ops + second.ops, first.comparators + second.comparators
                )
                yield lambda slot=slot, chain=chain: slot.replace(chain)


def shift_comparison(program: Program) -> Iterator[Edit]:
    """Of whole numbers: `x > 0` → `x >= 1`, `x < n` → `x <= n - 1`, and back."""
    shifts: dict[type[ast.cmpop], tuple[type[ast.cmpop], int]] = {
        ast.Gt: (ast.GtE, 1),
        ast.GtE: (ast.Gt, -1),
        ast.Lt: (ast.LtE, -1),
        ast.LtE: (ast.Lt, 1),
    }
    for slot in slots(program.tree):
        node = slot.node
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in shifts):
            continue
        if program.are(WHOLE, node.left, node.comparators[0]):
            operator, amount = shifts[type(node.ops[0])]
            moved = ast.Compare(node.left, [operator()], [shifted(node.comparators[0], amount)])
            yield lambda slot=slot, moved=moved: slot.replace(moved)


def shifted(node: ast.expr, amount: int) -> ast.expr:
    """`node + amount`, folded into the last number of `node` where there is one."""
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value + amount >= 0:
        return ast.Constant(node.value + amount)
    if isinstance(node, ast.Constant) and node.value == 0 and amount == -1:
        return ast.UnaryOp(ast.USub(), ast.Constant(1))
    if (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, (ast.Add, ast.Sub))
        and isinstance(node.right, ast.Constant)
    ):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        number = sign * node.right.value + amount if type(node.right.value) is int else None
        if number == 0:
            return clone(node.left)
        if number is not None:
            operator = ast.Add() if number > 0 else ast.Sub()
            return ast.BinOp(clone(node.left), operator, ast.Constant(abs(number)))
    operator = ast.Add() if amount > 0 else ast.Sub()
    return ast.BinOp(clone(node), operator, ast.Constant(abs(amount)))


def emptiness(program: Program) -> Iterator[Edit]:
    """In tests: `len(x) == 0` → `not x`, `x % 2 == 1` → `x % 2 != 0`, `n` → `n != 0`, and the like."""
    for slot in slots(program.tree):
        node = slot.node
        if not _is_test(slot):
            continue
        match node:
            case ast.Compare(
                left=ast.Call(func=ast.Name(id="len"), args=[value]),
                ops=[operator],
                comparators=[ast.Constant(value=0)],
            ) if program.are({"list", "str", "tuple", "set", "dict"}, value):
                if isinstance(operator, ast.Eq):
                    yield lambda slot=slot, value=value: slot.replace(ast.UnaryOp(ast.Not(), value))
                elif isinstance(operator, (ast.Gt, ast.NotEq)):
                    yield lambda slot=slot, value=value: slot.replace(value)
            case ast.UnaryOp(op=ast.Not(), operand=ast.Name() as value) if program.are(
                {"list", "str", "tuple"}, value
            ):
                length = ast.Call(ast.Name("len", ast.Load()), [value], [])
                empty = ast.Compare(length, [ast.Eq()], [ast.Constant(0)])
                yield lambda slot=slot, empty=empty: slot.replace(empty)
            case ast.Compare(
                left=ast.BinOp(op=ast.Mod(), right=ast.Constant(value=2)) as rest,
                ops=[ast.Eq() | ast.NotEq() as operator],
                comparators=[ast.Constant(value=0 | 1 as digit)],
            ) if program.are(WHOLE, rest):
                other = ast.Compare(rest, [OPPOSITE[type(operator)]()], [ast.Constant(1 - digit)])
                yield lambda slot=slot, other=other: slot.replace(other)
            case ast.Name() if program.are({"int"}, node):
                nonzero = ast.Compare(clone(node), [ast.NotEq()], [ast.Constant(0)])
                yield lambda slot=slot, nonzero=nonzero: slot.replace(nonzero)


def _is_test(slot: Slot) -> bool:
    """Whether only the truth of the expression counts here."""
    if isinstance(slot.parent, (ast.If, ast.While, ast.IfExp)):
        return slot.field_name == "test"
    if isinstance(slot.parent, ast.comprehension):
        return slot.field_name == "ifs"
    return isinstance(slot.parent, ast.UnaryOp) and isinstance(slot.parent.op, ast.Not)
