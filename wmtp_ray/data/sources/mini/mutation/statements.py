"""Mutations of whole statements: lost, doubled, moved, or leaving at the wrong moment."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.trees import (
    EXITS,
    SCOPES,
    Edit,
    Program,
    blocks,
    clone,
    enclosing_function,
    loops,
    own_nodes,
    stored_names,
)

_LEAVES = (*EXITS, *SCOPES, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)


def removed_statement(program: Program) -> Iterator[Edit]:
    """A statement is forgotten; not one that first binds a name, nor the only one of its block."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if (
                len(block) < 2
                or isinstance(node, (ast.Return, *SCOPES, ast.For, ast.While))
                or _binds_first(program, node)
            ):
                continue
            yield lambda block=block, position=position: block.__delitem__(position)


def doubled_statement(program: Program) -> Iterator[Edit]:
    """A statement is run twice: `total += x` `total += x`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if isinstance(node, (ast.AugAssign, ast.Expr)):
                yield lambda block=block, at=position, again=clone(node): block.insert(at, again)


def swapped_statements(program: Program) -> Iterator[Edit]:
    """Two neighbouring statements of which one reads what the other writes change places."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(itertools.pairwise(block)):
            if isinstance(first, _LEAVES) or isinstance(second, _LEAVES) or _binds_first(program, first):
                continue
            names = {node.id for node in ast.walk(second) if isinstance(node, ast.Name)}
            if stored_names(first) & names:
                new = [second, first]
                yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 2), new)


def indented_statement(program: Program) -> Iterator[Edit]:
    """The statement after a loop or `if` slips into it."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(itertools.pairwise(block)):
            if (
                isinstance(first, (ast.If, ast.For, ast.While))
                and not first.orelse
                and not isinstance(second, SCOPES)
            ):
                if isinstance(first.body[-1], EXITS) or (
                    isinstance(second, ast.Return) and isinstance(first, ast.If)
                ):
                    continue
                if not isinstance(second, ast.Return) and _binds_first(program, second):
                    continue

                def edit(
                    block: list[ast.stmt] = block, at: int = position, second: ast.stmt = second
                ) -> None:
                    first = block[at]
                    assert isinstance(first, (ast.If, ast.For, ast.While))
                    first.body.append(second)
                    if not isinstance(second, ast.Return):
                        del block[at + 1]
                    else:
                        block[at + 1] = clone(second)

                yield edit


def dedented_statement(program: Program) -> Iterator[Edit]:
    """The last statement of a loop's or `if`'s body slips out of it."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if isinstance(node, (ast.If, ast.For, ast.While)) and not node.orelse and len(node.body) > 1:
                if isinstance(node.body[-1], EXITS):
                    continue

                def edit(
                    block: list[ast.stmt] = block,
                    at: int = position,
                    node: ast.If | ast.For | ast.While = node,
                ) -> None:
                    block.insert(at + 1, node.body.pop())

                yield edit


def wrong_return(program: Program) -> Iterator[Edit]:
    """Another local of the same kind, or the opposite truth, is returned."""
    for block in blocks(program.tree):
        for node in block:
            if not isinstance(node, ast.Return) or node.value is None:
                continue
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool):
                opposite = ast.Constant(not node.value.value)
                yield lambda node=node, new=opposite: setattr(node, "value", new)
                continue
            kind = program.kind(node.value)
            function = enclosing_function(program.tree, node)
            names = {argument.arg for argument in function.args.args}
            for earlier in function.body:
                if earlier is node:
                    break
                names |= {
                    part.id for part in ast.walk(earlier) if isinstance(part, ast.Name) and _stores(part)
                }
            for name in sorted(names - _comprehension_names(function)):
                if program.kinds.get(name) == kind and not (
                    isinstance(node.value, ast.Name) and node.value.id == name
                ):
                    yield lambda node=node, name=name: setattr(node, "value", ast.Name(name, ast.Load()))


def early_return(program: Program) -> Iterator[Edit]:
    """The function's result is returned inside a loop, at the first round or under the loop's last condition."""
    for function_block in blocks(program.tree):
        last = function_block[-1]
        if not (isinstance(last, ast.Return) and isinstance(last.value, ast.Name)):
            continue
        for loop in function_block[:-1]:
            if isinstance(loop, (ast.For, ast.While)) and isinstance(loop.body[-1], ast.If):
                branch = loop.body[-1]
                if not isinstance(branch.body[-1], EXITS):
                    again = clone(last)
                    yield lambda branch=branch, again=again: branch.body.append(again)


def wrong_jump(program: Program) -> Iterator[Edit]:
    """`break` becomes `continue`, and back."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if isinstance(node, (ast.Break, ast.Continue)):
                other = ast.Continue() if isinstance(node, ast.Break) else ast.Break()
                yield lambda block=block, at=position, other=other: block.__setitem__(at, other)


def early_break(program: Program) -> Iterator[Edit]:
    """A loop is left after the first time its last condition holds."""
    for _, _, loop in loops(program.tree):
        last = loop.body[-1]
        if isinstance(last, ast.If) and not isinstance(last.body[-1], EXITS):
            yield lambda last=last: last.body.append(ast.Break())


def wrong_start(program: Program) -> Iterator[Edit]:
    """A name starts from another value: 0 from 1, 1 from 0, True from False."""
    for block in blocks(program.tree):
        for node in block:
            if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
                continue
            pairs = (
                zip(node.value.elts, range(len(node.value.elts)), strict=True)
                if isinstance(node.value, ast.Tuple)
                else [(node.value, None)]
            )
            for value, _index in pairs:
                if not isinstance(value, ast.Constant) or not isinstance(value.value, (bool, int)):
                    continue
                others = (
                    [not value.value]
                    if isinstance(value.value, bool)
                    else [value.value + 1, max(value.value - 1, 0)]
                )
                for other in others:
                    if other != value.value:
                        yield lambda value=value, other=other: setattr(value, "value", other)


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _comprehension_names(function: ast.FunctionDef) -> set[str]:
    return {
        name
        for node in own_nodes(function)
        if isinstance(node, ast.comprehension)
        for name in stored_names(node.target)
    }


def _binds_first(program: Program, statement: ast.stmt) -> bool:
    """Whether `statement` assigns a name that nothing binds before: without it, only a NameError remains."""
    names = stored_names(statement)
    if not names:
        return False
    function = enclosing_function(program.tree, statement)
    bound = {argument.arg for argument in function.args.args}
    inside = {id(node) for node in ast.walk(statement)}
    for node in own_nodes(function):
        if id(node) in inside:
            break
        if isinstance(node, ast.Name) and _stores(node):
            bound.add(node.id)
    return not names <= bound
