"""Rewrites inside one expression."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.kinds import WHOLE, Kind
from wmtp_ray.data.sources.mini.trees import Edit, Program, clone, fresh_name, is_pure, same, slots

_GATHERING = frozenset("sum any all sorted max min list set tuple join".split())


def commute(program: Program) -> Iterator[Edit]:
    """`a + b` → `b + a`, `a * b` → `b * a`, of whole numbers."""
    for slot in slots(program.tree):
        node = slot.node
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, (ast.Add, ast.Mult))
            and program.are(WHOLE, node.left, node.right)
            and is_pure(node)
            and not same(node.left, node.right)
        ):
            yield lambda slot=slot, new=ast.BinOp(node.right, node.op, node.left): slot.replace(new)


def reorder_extremes(program: Program) -> Iterator[Edit]:
    """`max(a, b)` → `max(b, a)`, of whole numbers; the same for `min`."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.Call(func=ast.Name(id="max" | "min") as function, args=[a, b], keywords=[]) if (
                program.are(WHOLE, a, b) and is_pure(slot.node)
            ):
                yield lambda slot=slot, new=ast.Call(function, [b, a], []): slot.replace(new)


def extreme_to_conditional(program: Program) -> Iterator[Edit]:
    """`max(a, b)` → `a if a >= b else b`, of whole numbers and plain operands; the same for `min`."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.Call(func=ast.Name(id="max" | "min" as name), args=[a, b], keywords=[]) if (
                program.are(WHOLE, a, b) and _is_short(a) and _is_short(b)
            ):
                operator = ast.GtE() if name == "max" else ast.LtE()
                new = ast.IfExp(ast.Compare(clone(a), [operator], [clone(b)]), a, b)
                yield lambda slot=slot, new=new: slot.replace(new)


def conditional_to_extreme(program: Program) -> Iterator[Edit]:
    """`a if a > b else b` → `max(a, b)`, of whole numbers; the same for `min`."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.IfExp(
                test=ast.Compare(left=left, ops=[operator], comparators=[right]), body=a, orelse=b
            ) if (
                isinstance(operator, (ast.Lt, ast.LtE, ast.Gt, ast.GtE))
                and program.are(WHOLE, a, b)
                and is_pure(slot.node)
            ):
                if same(left, a) and same(right, b):
                    larger = isinstance(operator, (ast.Gt, ast.GtE))
                elif same(left, b) and same(right, a):
                    larger = isinstance(operator, (ast.Lt, ast.LtE))
                else:
                    continue
                call = ast.Call(ast.Name("max" if larger else "min", ast.Load()), [a, b], [])
                yield lambda slot=slot, call=call: slot.replace(call)


def square(program: Program) -> Iterator[Edit]:
    """`x ** 2` → `x * x` and back, for plain `x`."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.BinOp(left=x, op=ast.Pow(), right=ast.Constant(value=2)) if _is_short(x):
                yield lambda slot=slot, new=ast.BinOp(x, ast.Mult(), clone(x)): slot.replace(new)
            case ast.BinOp(left=x, op=ast.Mult(), right=y) if same(x, y) and _is_short(x):
                yield lambda slot=slot, new=ast.BinOp(x, ast.Pow(), ast.Constant(2)): slot.replace(new)


def reverse(program: Program) -> Iterator[Edit]:
    """`x[::-1]` → `list(reversed(x))` for lists, `''.join(reversed(x))` for strings, and back."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.Subscript(
                value=x,
                slice=ast.Slice(
                    lower=None, upper=None, step=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1))
                ),
            ) if program.are({"list", "str"}, x):
                turned = ast.Call(ast.Name("reversed", ast.Load()), [x], [])
                text = program.are({"str"}, x)
                join = ast.Attribute(ast.Constant(""), "join", ast.Load())
                new = ast.Call(join if text else ast.Name("list", ast.Load()), [turned], [])
                yield lambda slot=slot, new=new: slot.replace(new)
            case ast.Call(
                func=ast.Name(id="list") | ast.Attribute(value=ast.Constant(value=""), attr="join") as outer,
                args=[ast.Call(func=ast.Name(id="reversed"), args=[x])],
            ) if program.are({"list" if isinstance(outer, ast.Name) else "str"}, x):
                back = ast.Slice(None, None, ast.UnaryOp(ast.USub(), ast.Constant(1)))
                yield lambda slot=slot, new=ast.Subscript(x, back, ast.Load()): slot.replace(new)


def range_start(program: Program) -> Iterator[Edit]:
    """`range(n)` → `range(0, n)` and back."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.Call(func=ast.Name(id="range") as function, args=[stop], keywords=[]):
                new = ast.Call(function, [ast.Constant(0), stop], [])
                yield lambda slot=slot, new=new: slot.replace(new)
            case ast.Call(
                func=ast.Name(id="range") as function, args=[ast.Constant(value=0), stop], keywords=[]
            ):
                yield lambda slot=slot, new=ast.Call(function, [stop], []): slot.replace(new)


def gather(program: Program) -> Iterator[Edit]:
    """`sum(e for ...)` → `sum([e for ...])` and back; the same for `sorted`, `max`, `join` and others."""
    for slot in slots(program.tree):
        if not (
            isinstance(slot.parent, ast.Call) and slot.field_name == "args" and len(slot.parent.args) == 1
        ):
            continue
        function = slot.parent.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if name not in _GATHERING or not is_pure(slot.node):
            continue
        if isinstance(slot.node, ast.GeneratorExp):
            new: ast.expr = ast.ListComp(slot.node.elt, slot.node.generators)
        elif isinstance(slot.node, ast.ListComp):
            new = ast.GeneratorExp(slot.node.elt, slot.node.generators)
        else:
            continue
        yield lambda slot=slot, new=new: slot.replace(new)


def count_truth(program: Program) -> Iterator[Edit]:
    """`sum(c for ...)` of bools → `sum(1 for ... if c)`, and back."""
    for slot in slots(program.tree):
        if not (isinstance(slot.parent, ast.Call) and isinstance(slot.parent.func, ast.Name)):
            continue
        node = slot.node
        if (
            slot.parent.func.id != "sum"
            or not isinstance(node, ast.GeneratorExp)
            or len(node.generators) != 1
        ):
            continue
        part = node.generators[0]
        if program.kind(node.elt) == Kind("bool"):
            filtered = ast.comprehension(part.target, part.iter, [*part.ifs, node.elt], 0)
            yield lambda slot=slot, new=ast.GeneratorExp(ast.Constant(1), [filtered]): slot.replace(new)
        elif same(node.elt, ast.Constant(1)) and [program.kind(test) for test in part.ifs] == [Kind("bool")]:
            bare = ast.comprehension(part.target, part.iter, [], 0)
            yield lambda slot=slot, new=ast.GeneratorExp(part.ifs[0], [bare]): slot.replace(new)


def map_to_comprehension(program: Program) -> Iterator[Edit]:
    """`f(map(g, xs))` → `f(g(item) for item in xs)`."""
    item = fresh_name(program.tree, ("item", "x", "v", "part", "entry", "one"))
    for slot in slots(program.tree):
        match slot.node:
            case ast.Call(func=ast.Name(id="map"), args=[ast.Name() as function, items], keywords=[]) if (
                item is not None
            ):
                if isinstance(slot.parent, ast.Call):
                    call = ast.Call(function, [ast.Name(item, ast.Load())], [])
                    part = ast.comprehension(ast.Name(item, ast.Store()), items, [], 0)
                    yield lambda slot=slot, new=ast.GeneratorExp(call, [part]): slot.replace(new)


def extend_division(program: Program) -> Iterator[Edit]:
    """`n % k` → `n - n // k * k`, of whole numbers and plain operands."""
    for slot in slots(program.tree):
        match slot.node:
            case ast.BinOp(left=ast.Name() as n, op=ast.Mod(), right=ast.Constant() as k) if program.are(
                WHOLE, n, k
            ):
                multiple = ast.BinOp(ast.BinOp(clone(n), ast.FloorDiv(), k), ast.Mult(), clone(k))
                yield lambda slot=slot, new=ast.BinOp(n, ast.Sub(), multiple): slot.replace(new)


def _is_short(node: ast.expr) -> bool:
    """Names, numbers and plain subscripts: cheap to write and to compute twice."""
    if isinstance(node, ast.Subscript):
        return _is_short(node.value) and isinstance(node.slice, (ast.Name, ast.Constant))
    return isinstance(node, (ast.Name, ast.Constant))
