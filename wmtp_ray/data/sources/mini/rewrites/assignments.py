"""Rewrites of assignments."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.kinds import IMMUTABLE, NUMBERS
from wmtp_ray.data.sources.mini.trees import (
    Edit,
    Program,
    blocks,
    clone,
    fresh_name,
    is_pure,
    loaded_names,
    stored_names,
)

SPARE_NAMES = ("tmp", "temp", "spare", "kept", "previous_value", "held")


def expand_augmented(program: Program) -> Iterator[Edit]:
    """`x += e` → `x = x + e`; of a list or set only where nothing else can hold it, so only of immutable kinds."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if not isinstance(node, ast.AugAssign):
                continue
            target = node.target
            if isinstance(target, ast.Name) and program.are(IMMUTABLE, target):
                load: ast.expr = ast.Name(target.id, ast.Load())
            elif isinstance(target, ast.Subscript) and is_pure(target) and program.are(NUMBERS, node.value):
                load = ast.Subscript(clone(target.value), clone(target.slice), ast.Load())
            else:
                continue
            plain = ast.Assign([target], ast.BinOp(load, node.op, node.value))
            yield lambda block=block, position=position, plain=plain: block.__setitem__(position, plain)


def contract_augmented(program: Program) -> Iterator[Edit]:
    """`x = x + e` → `x += e`, of immutable kinds."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if (
                isinstance(node, ast.Assign)
                and len(node.targets) == 1
                and isinstance(node.targets[0], ast.Name)
                and isinstance(node.value, ast.BinOp)
                and isinstance(node.value.left, ast.Name)
                and node.value.left.id == node.targets[0].id
                and program.are(IMMUTABLE, node.targets[0])
            ):
                short = ast.AugAssign(node.targets[0], node.value.op, node.value.right)
                yield lambda block=block, position=position, short=short: block.__setitem__(position, short)


def split_tuple_assignment(program: Program) -> Iterator[Edit]:
    """`a, b = x, y` → `a = x` `b = y`, with a spare name where `y` reads `a`."""
    spare = fresh_name(program.tree, SPARE_NAMES)
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            match node:
                case ast.Assign(
                    targets=[ast.Tuple(elts=[ast.Name() as a, ast.Name() as b])], value=ast.Tuple(elts=[x, y])
                ):
                    if (
                        isinstance(x, ast.Starred)
                        or isinstance(y, ast.Starred)
                        or not (is_pure(x) and is_pure(y))
                    ):
                        continue
                    if a.id not in loaded_names(y):
                        parts: list[ast.stmt] = [ast.Assign([a], x), ast.Assign([b], y)]
                    elif b.id not in loaded_names(x):
                        parts = [ast.Assign([b], y), ast.Assign([a], x)]
                    elif spare is not None:
                        parts = [
                            ast.Assign([ast.Name(spare, ast.Store())], x),
                            ast.Assign([b], y),
                            ast.Assign([a], ast.Name(spare, ast.Load())),
                        ]
                    else:
                        continue
                    yield lambda block=block, at=position, parts=parts: block.__setitem__(
                        slice(at, at + 1), parts
                    )


def _independent_pair(first: ast.stmt, second: ast.stmt) -> tuple[ast.Assign, ast.Assign] | None:
    """Both statements if they are pure assignments to different names, neither of which reads the other's."""
    for node in (first, second):
        if not (
            isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        ):
            return None
        if not is_pure(node.value):
            return None
    assert isinstance(first, ast.Assign) and isinstance(second, ast.Assign)
    mine, other = stored_names(first.targets[0]), stored_names(second.targets[0])
    if mine & other or mine & loaded_names(second.value) or other & loaded_names(first.value):
        return None
    return first, second


def swap_assignments(program: Program) -> Iterator[Edit]:
    """Two neighbouring assignments that do not depend on each other change places."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(itertools.pairwise(block)):
            if _independent_pair(first, second):
                new = [second, first]
                yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 2), new)


def join_assignments(program: Program) -> Iterator[Edit]:
    """`a = x` `b = y` → `a, b = x, y`."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(itertools.pairwise(block)):
            pair = _independent_pair(first, second)
            if pair:
                targets = ast.Tuple([pair[0].targets[0], pair[1].targets[0]], ast.Store())
                both = ast.Assign([targets], ast.Tuple([pair[0].value, pair[1].value], ast.Load()))
                yield lambda block=block, at=position, both=both: block.__setitem__(slice(at, at + 2), [both])
