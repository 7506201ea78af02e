"""What kind of value a name holds: a small flow-insensitive inference, started from the values that the tests pass in.

Rewrites ask it before they swap operands or turn `x = x + y` into `x += y`. It is a guide, not a proof (it ignores
aliases): every rewritten program is still run against the tests.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """`name` is never, any, int, bool, float, str, none, list, tuple, set, dict, or range.

    `item` is the kind of what iteration yields, `value` the kind of what a dict maps to.
    """

    name: str
    item: Kind | None = None
    value: Kind | None = None


NEVER, ANY, INT, BOOL = Kind("never"), Kind("any"), Kind("int"), Kind("bool")
FLOAT, STR, NONE = Kind("float"), Kind("str"), Kind("none")
RANGE = Kind("range", INT)
NUMBERS = frozenset({"int", "bool", "float"})
WHOLE = frozenset({"int", "bool"})
SEQUENCES = frozenset({"list", "tuple", "str"})
ORDERED = frozenset({"int", "bool", "float", "str"})
IMMUTABLE = frozenset({"int", "bool", "float", "str", "tuple"})

_INT_FUNCTIONS = frozenset("len int ord hash".split())
_STR_METHODS = frozenset(
    "lower upper strip lstrip rstrip replace join title swapcase zfill capitalize".split()
)
_INT_METHODS = frozenset("count find index bit_length".split())
_BOOL_METHODS = frozenset("isalnum isalpha isdigit islower isspace isupper startswith endswith".split())
_GROWING = {"append": 0, "add": 0, "appendleft": 0, "insert": 1}
_ROUNDS = 8


@dataclass(frozen=True)
class Signature:
    """The entry function as running it showed it: kinds of its parameters, by position, and of its result."""

    name: str
    parameters: tuple[Kind, ...]
    returns: Kind


def join(first: Kind | None, second: Kind | None) -> Kind:
    """The least kind that covers both."""
    first, second = first or NEVER, second or NEVER
    if first == second or second == NEVER:
        return first
    if first == NEVER:
        return second
    names = {first.name, second.name}
    if names <= NUMBERS:
        return FLOAT if "float" in names else INT
    if len(names) == 1:
        value = join(first.value, second.value) if first.name == "dict" else None
        return Kind(first.name, join(first.item, second.item), value)
    return ANY


def kind_of_value(value: Any) -> Kind:
    """The kind of a Python value."""
    simple = {bool: BOOL, int: INT, float: FLOAT, str: STR, type(None): NONE}
    if type(value) in simple:
        return simple[type(value)]
    if isinstance(value, dict):
        return Kind(
            "dict", _join_all(map(kind_of_value, value)), _join_all(map(kind_of_value, value.values()))
        )
    if isinstance(value, (list, tuple, set)):
        return Kind(type(value).__name__, _join_all(map(kind_of_value, value)))
    return ANY


def item_of(kind: Kind) -> Kind:
    """The kind of what iterating over a value of this kind yields."""
    if kind.name == "str":
        return STR
    return kind.item or (NEVER if kind.name in ("never", "list", "tuple", "set", "dict") else ANY)


def infer_kinds(tree: ast.Module, signature: Signature) -> dict[str, Kind]:
    """The kind of every name of the program; functions that share a name share its kind."""
    kinds: dict[str, Kind] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            entry = isinstance(node, ast.FunctionDef) and node.name == signature.name
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            for position, argument in enumerate(arguments):
                known = entry and position < len(signature.parameters)
                kinds[argument.arg] = join(
                    kinds.get(argument.arg), signature.parameters[position] if known else ANY
                )
    for round_number in range(_ROUNDS):
        before = dict(kinds)
        for node in ast.walk(tree):
            _learn(node, kinds, signature)
        if kinds == before:
            return kinds
        if round_number == _ROUNDS - 2:
            kinds.update({name: ANY for name, kind in kinds.items() if before.get(name) != kind})
    return kinds


def _join_all(kinds: Any) -> Kind:
    result = NEVER
    for kind in kinds:
        result = join(result, kind)
    return result


def _learn(node: ast.AST, kinds: dict[str, Kind], signature: Signature) -> None:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            _bind(target, kind_of(node.value, kinds, signature), kinds)
    elif isinstance(node, ast.AugAssign):
        whole = ast.BinOp(_as_load(node.target), node.op, node.value)
        _bind(node.target, kind_of(whole, kinds, signature), kinds)
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        if node.value is not None:
            _bind(node.target, kind_of(node.value, kinds, signature), kinds)
    elif isinstance(node, (ast.For, ast.comprehension)):
        _bind(node.target, item_of(kind_of(node.iter, kinds, signature)), kinds)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        _bind(node.optional_vars, ANY, kinds)
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    ):
        name, method = node.func.value.id, node.func.attr
        if (
            method in _GROWING
            and len(node.args) > _GROWING[method]
            and kinds.get(name, ANY).name in ("list", "set")
        ):
            item = kind_of(node.args[_GROWING[method]], kinds, signature)
            kinds[name] = join(kinds[name], Kind(kinds[name].name, item))
        elif method in ("extend", "update", "setdefault") and name in kinds:
            kinds[name] = ANY


def _as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    return target


def _bind(target: ast.expr, kind: Kind, kinds: dict[str, Kind]) -> None:
    if isinstance(target, ast.Name):
        kinds[target.id] = join(kinds.get(target.id), kind)
    elif isinstance(target, (ast.Tuple, ast.List)):
        for element in target.elts:
            if isinstance(element, ast.Starred):
                _bind(element.value, Kind("list", ANY), kinds)
            else:
                _bind(element, item_of(kind), kinds)
    elif isinstance(target, ast.Subscript):
        root = target.value
        if isinstance(root, ast.Name) and kinds.get(root.id, ANY).name in ("list", "dict"):
            known = kinds[root.id]
            value = Kind("list", kind) if known.name == "list" else Kind("dict", ANY, kind)
            kinds[root.id] = join(known, value)
            return
        while isinstance(root, ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and kind.name not in ("int", "bool", "never"):
            kinds[root.id] = ANY


def kind_of(node: ast.expr, kinds: dict[str, Kind], signature: Signature) -> Kind:
    """The kind of an expression, `ANY` where nothing is known."""

    def ask(child: ast.expr) -> Kind:
        return kind_of(child, kinds, signature)

    match node:
        case ast.Constant(value=value):
            return kind_of_value(value)
        case ast.Name(id=name):
            return kinds.get(name, ANY)
        case ast.JoinedStr():
            return STR
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return BOOL
        case ast.UnaryOp(operand=operand):
            kind = ask(operand)
            return INT if kind.name in WHOLE else kind
        case ast.BoolOp(values=values):
            return _join_all(map(ask, values))
        case ast.IfExp(body=body, orelse=orelse):
            return join(ask(body), ask(orelse))
        case ast.BinOp(left=left, op=operator, right=right):
            return _kind_of_operation(operator, ask(left), ask(right), right)
        case ast.List(elts=elements) | ast.Set(elts=elements) | ast.Tuple(elts=elements):
            return Kind(type(node).__name__.lower(), _join_all(map(ask, elements)))
        case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element):
            return Kind("list" if isinstance(node, ast.ListComp) else "iterator", ask(element))
        case ast.SetComp(elt=element):
            return Kind("set", ask(element))
        case ast.DictComp(key=key, value=value):
            return Kind("dict", ask(key), ask(value))
        case ast.Dict(keys=keys, values=values):
            return Kind("dict", _join_all(ask(key) for key in keys if key), _join_all(map(ask, values)))
        case ast.Subscript(value=value, slice=index):
            kind = ask(value)
            if isinstance(index, ast.Slice):
                return kind
            return (kind.value or ANY) if kind.name == "dict" else item_of(kind)
        case ast.Call():
            return _kind_of_call(node, ask, signature)
    return ANY


def _kind_of_operation(operator: ast.operator, left: Kind, right: Kind, right_node: ast.expr) -> Kind:
    names = {left.name, right.name}
    if NEVER in (left, right):
        return NEVER
    if names <= WHOLE:
        if isinstance(operator, ast.Div):
            return FLOAT
        if isinstance(operator, ast.Pow) and not isinstance(right_node, ast.Constant):
            return ANY
        return INT
    if names <= NUMBERS:
        return FLOAT
    if isinstance(operator, ast.Add) and len(names) == 1:
        return join(left, right)
    if isinstance(operator, ast.Mult) and left.name in SEQUENCES and right.name in WHOLE:
        return left
    if isinstance(operator, (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)) and names == {"set"}:
        return join(left, right)
    return ANY


def _kind_of_call(call: ast.Call, ask: Any, signature: Signature) -> Kind:
    arguments = [ask(argument) for argument in call.args]
    first = arguments[0] if arguments else NEVER
    match call.func:
        case ast.Name(id=name):
            if name == signature.name:
                return signature.returns
            if name in _INT_FUNCTIONS:
                return INT
            if name in ("str", "chr", "bin", "hex", "repr"):
                return STR
            if name in ("any", "all", "bool", "isinstance"):
                return BOOL
            if name in ("abs", "sum"):
                kind = item_of(first) if name == "sum" else first
                return INT if kind.name in WHOLE and len(arguments) == 1 else ANY
            if name in ("min", "max"):
                if call.keywords:
                    return ANY
                return item_of(first) if len(arguments) == 1 else _join_all(arguments)
            if name in ("sorted", "list"):
                return Kind("list", item_of(first))
            if name in ("set", "tuple"):
                return Kind(name, item_of(first))
            if name == "reversed":
                return Kind("iterator", item_of(first))
            if name == "range":
                return RANGE
            if name == "divmod":
                return Kind("tuple", _join_all(arguments))
            if name in ("enumerate", "zip"):
                kinds = [item_of(kind) for kind in arguments] + ([INT] if name == "enumerate" else [])
                return Kind("iterator", Kind("tuple", _join_all(kinds)))
        case ast.Attribute(attr=method, value=value):
            if method in _STR_METHODS:
                return STR
            if method in _INT_METHODS:
                return INT
            if method in _BOOL_METHODS:
                return BOOL
            if method == "split":
                return Kind("list", STR)
            receiver = ask(value)
            if method == "get" and receiver.name == "dict" and len(arguments) == 2:
                return join(receiver.value, arguments[1])
            if method == "pop" and receiver.name == "list":
                return item_of(receiver)
            if method == "copy":
                return receiver
    return ANY
