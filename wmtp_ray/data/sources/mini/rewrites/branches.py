"""Rewrites between branching statements and expressions."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.trees import (
    Edit,
    Program,
    blocks,
    clone,
    is_pure,
    is_simple,
    loaded_names,
    same,
)


def expand_conditional(program: Program) -> Iterator[Edit]:
    """`x = a if c else b` → an `if` statement; the same for `return`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            match node:
                case ast.Return(value=ast.IfExp(test=test, body=body, orelse=orelse)):
                    new: list[ast.stmt] = [ast.If(test, [ast.Return(body)], []), ast.Return(orelse)]
                case ast.Assign(
                    targets=[ast.Name() as target], value=ast.IfExp(test=test, body=body, orelse=orelse)
                ):
                    new = [ast.If(test, [ast.Assign([target], body)], [ast.Assign([clone(target)], orelse)])]
                case ast.AugAssign(
                    target=ast.Name() as target, value=ast.IfExp(test=test, body=body, orelse=orelse)
                ):
                    yes = ast.AugAssign(target, node.op, body)
                    new = [ast.If(test, [yes], [ast.AugAssign(clone(target), node.op, orelse)])]
                    if loaded_names(test, body, orelse) & {target.id} or not is_pure(node.value):
                        continue
                case _:
                    continue
            yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 1), new)


def contract_conditional(program: Program) -> Iterator[Edit]:
    """`if c: x = a` `else: x = b` → `x = a if c else b`; the same for `return`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            following = block[position + 1] if position + 1 < len(block) else None
            match node:
                case ast.If(
                    test=test,
                    body=[ast.Assign(targets=[ast.Name() as target], value=yes)],
                    orelse=[ast.Assign(targets=[ast.Name() as other], value=no)],
                ) if target.id == other.id:
                    new: ast.stmt = ast.Assign([target], ast.IfExp(test, yes, no))
                    length = 1
                case ast.If(test=test, body=[ast.Return(value=ast.expr() as yes)], orelse=[]) if (
                    isinstance(following, ast.Return) and following.value is not None
                ):
                    new = ast.Return(ast.IfExp(test, yes, following.value))
                    length = 2
                case ast.If(
                    test=test,
                    body=[ast.Return(value=ast.expr() as yes)],
                    orelse=[ast.Return(value=ast.expr() as no)],
                ):
                    new = ast.Return(ast.IfExp(test, yes, no))
                    length = 1
                case _:
                    continue
            yield lambda block=block, at=position, n=length, new=new: block.__setitem__(
                slice(at, at + n), [new]
            )


def branch_on_truth(program: Program) -> Iterator[Edit]:
    """`return c` → `if c: return True` `return False`, where `c` is a bool."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if not isinstance(node, ast.Return) or node.value is None or is_simple(node.value):
                continue
            if program.are({"bool"}, node.value):
                yes = ast.If(node.value, [ast.Return(ast.Constant(True))], [])
                new: list[ast.stmt] = [yes, ast.Return(ast.Constant(False))]
                yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 1), new)


def return_truth(program: Program) -> Iterator[Edit]:
    """`if c: return True` `return False` → `return c`, where `c` is a bool."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(itertools.pairwise(block)):
            match (first, second):
                case (
                    ast.If(test=test, body=[ast.Return(value=ast.Constant(value=True))], orelse=[]),
                    ast.Return(value=ast.Constant(value=False)),
                ) if program.are({"bool"}, test):
                    new = ast.Return(test)
                    yield lambda block=block, at=position, new=new: block.__setitem__(
                        slice(at, at + 2), [new]
                    )


def extract_condition_branch(program: Program) -> Iterator[Edit]:
    """`if a or b: return x` → `if a: return x` `if b: return x`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            match node:
                case ast.If(test=ast.BoolOp(op=ast.Or(), values=[a, b]), body=[ast.Return()], orelse=[]):
                    new = [ast.If(a, node.body, []), ast.If(b, [clone(node.body[0])], [])]
                    yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 1), new)


def merge_condition_branches(program: Program) -> Iterator[Edit]:
    """`if a: return x` `if b: return x` → `if a or b: return x`."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(itertools.pairwise(block)):
            match (first, second):
                case (
                    ast.If(body=[ast.Return() as x], orelse=[]),
                    ast.If(body=[ast.Return() as y], orelse=[]),
                ) if same(x, y):
                    new = ast.If(ast.BoolOp(ast.Or(), [first.test, second.test]), [x], [])
                    yield lambda block=block, at=position, new=new: block.__setitem__(
                        slice(at, at + 2), [new]
                    )
