"""Rewrites of loops: `for` and `while`, elements and indices."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.kinds import SEQUENCES, WHOLE
from wmtp_ray.data.sources.mini.rewrites.conditions import negate
from wmtp_ray.data.sources.mini.trees import (
    SCOPES,
    Edit,
    Program,
    clone,
    enclosing_function,
    fresh_name,
    is_unchanged,
    loaded_names,
    loops,
    own_jumps,
    same,
    stored_names,
)

INDEX_NAMES = ("i", "j", "k", "idx", "pos", "index", "at", "position")
ITEM_NAMES = ("x", "item", "v", "value", "element", "current", "entry")


def for_to_while(program: Program) -> Iterator[Edit]:
    """`for i in range(a, b, s): body` → `i = a` `while i < b: body; i += s`.

    Only where the bound stays the same, `body` neither assigns `i` nor continues, and `i` is not read after the loop.
    """
    for block, position, loop in loops(program.tree):
        if not (isinstance(loop, ast.For) and isinstance(loop.target, ast.Name)):
            continue
        bounds = range_bounds(loop.iter)
        if bounds is None:
            continue
        start, stop, step = bounds
        name = loop.target.id
        function = enclosing_function(program.tree, loop)
        if (
            any(isinstance(jump, ast.Continue) for jump in own_jumps(loop))
            or not _is_private(name, loop, function)
            or not is_unchanged(stop, loop.body, function)
            or name in loaded_names(start, stop)
        ):
            continue
        operator = ast.Lt() if step > 0 else ast.Gt()
        test = ast.Compare(ast.Name(name, ast.Load()), [operator], [clone(stop)])
        change = ast.Add() if step > 0 else ast.Sub()
        advance = ast.AugAssign(ast.Name(name, ast.Store()), change, ast.Constant(abs(step)))
        new: list[ast.stmt] = [
            ast.Assign([ast.Name(name, ast.Store())], clone(start)),
            ast.While(test, [*loop.body, advance], []),
        ]
        yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 1), new)


def while_to_for(program: Program) -> Iterator[Edit]:
    """`i = a` `while i < b: body; i += 1` → `for i in range(a, b): body`, under the conditions of `for_to_while`."""
    for block, position, loop in loops(program.tree):
        match loop:
            case ast.While(
                test=ast.Compare(
                    left=ast.Name(id=name), ops=[ast.Lt() | ast.LtE() as operator], comparators=[stop]
                ),
                body=[
                    _,
                    *_,
                    ast.AugAssign(target=ast.Name(id=moved), op=ast.Add(), value=ast.Constant(value=1)),
                ],
            ) if moved == name:
                pass
            case _:
                continue
        first = block[position - 1] if position else None
        if not (
            isinstance(first, ast.Assign) and len(first.targets) == 1 and _is_name(first.targets[0], name)
        ):
            continue
        function = enclosing_function(program.tree, loop)
        rest = loop.body[:-1]
        if (
            any(isinstance(jump, ast.Continue) for jump in own_jumps(loop))
            or name in stored_names(*rest)
            or not _is_private(name, loop, function)
            or not is_unchanged(stop, rest, function)
            or not program.are(WHOLE, stop, first.value)
        ):
            continue
        if isinstance(operator, ast.LtE):
            stop = ast.BinOp(clone(stop), ast.Add(), ast.Constant(1))
        new = ast.For(ast.Name(name, ast.Store()), _range(first.value, stop), rest, [])
        yield lambda block=block, at=position, new=new: block.__setitem__(slice(at - 1, at + 1), [new])


def elements_to_indices(program: Program) -> Iterator[Edit]:
    """`for x in xs: body` → `for i in range(len(xs)): x = xs[i]; body`, where `xs` is an unchanged sequence."""
    index = fresh_name(program.tree, INDEX_NAMES)
    for _, _, loop in loops(program.tree):
        if not (isinstance(loop, ast.For) and isinstance(loop.iter, ast.Name) and index is not None):
            continue
        function = enclosing_function(program.tree, loop)
        if program.kind(loop.iter).name not in SEQUENCES or not is_unchanged(loop.iter, loop.body, function):
            continue
        if loop.iter.id in stored_names(loop.target):
            continue

        def edit(loop: ast.For = loop, index: str = index) -> None:
            read = ast.Subscript(clone(loop.iter), ast.Name(index, ast.Load()), ast.Load())
            loop.body.insert(0, ast.Assign([loop.target], read))
            loop.iter = _range(ast.Constant(0), _length(loop.iter))
            loop.target = ast.Name(index, ast.Store())

        yield edit


def enumerate_to_indices(program: Program) -> Iterator[Edit]:
    """`for i, x in enumerate(xs): body` → `for i in range(len(xs)): x = xs[i]; body`."""
    for _, _, loop in loops(program.tree):
        match loop:
            case ast.For(
                target=ast.Tuple(elts=[ast.Name() as index, item]),
                iter=ast.Call(func=ast.Name(id="enumerate"), args=[ast.Name() as items], keywords=[]),
            ):
                pass
            case _:
                continue
        function = enclosing_function(program.tree, loop)
        if (
            program.kind(items).name not in SEQUENCES
            or not is_unchanged(items, loop.body, function)
            or items.id in stored_names(loop.target)
        ):
            continue

        def edit(
            loop: ast.For = loop, index: ast.Name = index, item: ast.expr = item, items: ast.Name = items
        ) -> None:
            read = ast.Subscript(clone(items), ast.Name(index.id, ast.Load()), ast.Load())
            loop.body.insert(0, ast.Assign([item], read))
            loop.iter = _range(ast.Constant(0), _length(items))
            loop.target = index

        yield edit


def indices_to_enumerate(program: Program) -> Iterator[Edit]:
    """`for i in range(len(xs)): ...xs[i]...` → `for i, x in enumerate(xs): ...x...`."""
    item = fresh_name(program.tree, ITEM_NAMES)
    for _, _, loop in loops(program.tree):
        match loop:
            case ast.For(
                target=ast.Name(id=name),
                iter=ast.Call(
                    func=ast.Name(id="range"),
                    args=[ast.Call(func=ast.Name(id="len"), args=[ast.Name() as items])],
                ),
            ) if item is not None:
                pass
            case _:
                continue
        read = ast.Subscript(ast.Name(items.id, ast.Load()), ast.Name(name, ast.Load()), ast.Load())
        count = sum(
            isinstance(node, ast.Subscript) and same(node, read)
            for part in loop.body
            for node in ast.walk(part)
        )
        function = enclosing_function(program.tree, loop)
        if (
            not count
            or name in stored_names(*loop.body)
            or program.kind(items).name not in SEQUENCES
            or not is_unchanged(items, loop.body, function)
            or any(isinstance(node, SCOPES) for part in loop.body for node in ast.walk(part))
        ):
            continue

        def edit(
            loop: ast.For = loop, items: ast.Name = items, read: ast.expr = read, item: str = item
        ) -> None:
            replace = _Replace(read, item)
            loop.body = [replace.visit(part) for part in loop.body]
            loop.target = ast.Tuple([loop.target, ast.Name(item, ast.Store())], ast.Store())
            loop.iter = ast.Call(ast.Name("enumerate", ast.Load()), [clone(items)], [])

        yield edit


def test_inside(program: Program) -> Iterator[Edit]:
    """`while c: body` → `while True: if not c: break; body`."""
    for _, _, loop in loops(program.tree):
        if isinstance(loop, ast.While) and not isinstance(loop.test, ast.Constant):

            def edit(loop: ast.While = loop) -> None:
                loop.body.insert(0, ast.If(negate(loop.test, program), [ast.Break()], []))
                loop.test = ast.Constant(True)

            yield edit


def test_outside(program: Program) -> Iterator[Edit]:
    """`while True: if c: break; body` → `while not c: body`."""
    for _, _, loop in loops(program.tree):
        match loop:
            case ast.While(
                test=ast.Constant(value=True), body=[ast.If(test=test, body=[ast.Break()], orelse=[]), _, *_]
            ):

                def edit(loop: ast.While = loop, test: ast.expr = test) -> None:
                    loop.test = negate(test, program)
                    del loop.body[0]

                yield edit


def range_bounds(node: ast.expr) -> tuple[ast.expr, ast.expr, int] | None:
    """(start, stop, step) of a call of `range` whose step is written as a number, else None."""
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[stop], keywords=[]):
            return ast.Constant(0), stop, 1
        case ast.Call(func=ast.Name(id="range"), args=[start, stop], keywords=[]):
            return start, stop, 1
        case ast.Call(
            func=ast.Name(id="range"), args=[start, stop, ast.Constant(value=int(step))], keywords=[]
        ) if step:
            return start, stop, step
        case ast.Call(
            func=ast.Name(id="range"),
            args=[start, stop, ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(step)))],
            keywords=[],
        ) if step:
            return start, stop, -step
    return None


class _Replace(ast.NodeTransformer):
    """Puts the name `item` in place of every expression that is written like `read`."""

    def __init__(self, read: ast.expr, item: str) -> None:
        self.read, self.item = read, item

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if same(node, self.read):
            return ast.Name(self.item, ast.Load())
        self.generic_visit(node)
        return node


def _is_private(name: str, loop: ast.For | ast.While, function: ast.FunctionDef) -> bool:
    """Whether no code outside `loop` can notice what `name` holds after it, and no closure captures it."""
    inside = {id(node) for node in ast.walk(loop)}
    for node in ast.walk(function):
        if isinstance(node, SCOPES) and node is not function and name in loaded_names(node):
            return False
        if isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names:
            return False
    rebound = {
        id(child)
        for node in ast.walk(function)
        if isinstance(node, (ast.For, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp))
        and node is not loop
        and _binds(node, name)
        and not any(child is loop for child in ast.walk(node))
        for child in ast.walk(node)
    }
    return not any(
        isinstance(node, ast.Name)
        and node.id == name
        and isinstance(node.ctx, ast.Load)
        and id(node) not in inside
        and id(node) not in rebound
        for node in ast.walk(function)
    ) and (isinstance(loop, ast.While) or name not in stored_names(*loop.body))


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.For):
        return name in stored_names(node.target)
    return any(name in stored_names(part.target) for part in getattr(node, "generators", []))


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _length(items: ast.expr) -> ast.expr:
    return ast.Call(ast.Name("len", ast.Load()), [clone(items)], [])


def _range(start: ast.expr, stop: ast.expr) -> ast.expr:
    zero = isinstance(start, ast.Constant) and start.value == 0
    return ast.Call(ast.Name("range", ast.Load()), [stop] if zero else [start, stop], [])
