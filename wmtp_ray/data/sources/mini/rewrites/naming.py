"""Rewrites that give a value a name, take it away, or change it."""

from __future__ import annotations

import ast
import builtins
import itertools
import random
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.trees import (
    SCOPES,
    Edit,
    Program,
    blocks,
    fresh_name,
    functions,
    is_simple,
    loaded_names,
    own_nodes,
    stored_names,
)

RESULT_NAMES = ("result", "answer", "value", "output", "res", "ans", "final", "outcome", "ret")
FLAG_NAMES = ("found", "ok", "holds", "condition", "check", "flag", "matches", "hit")
LOCAL_NAMES = tuple(
    "total acc count result res out value cur current best item entry left right start stop pos idx index low high "
    "step seen stack group key part piece state size limit first second rest head tail mark prev nxt number amount "
    "cell row col x y z a b c d e i j k m p q r s t u v w".split()
)


def name_result(program: Program) -> Iterator[Edit]:
    """`return e` → `result = e` `return result`."""
    yield from _name_expression(program, ast.Return, "value", RESULT_NAMES)


def name_condition(program: Program) -> Iterator[Edit]:
    """`if c:` → `found = c` `if found:`."""
    yield from _name_expression(program, ast.If, "test", FLAG_NAMES)


def _name_expression(
    program: Program, statement: type[ast.stmt], field: str, candidates: tuple[str, ...]
) -> Iterator[Edit]:
    name = fresh_name(program.tree, candidates)
    if name is None:
        return
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            expression = getattr(node, field, None)
            if isinstance(node, statement) and isinstance(expression, ast.expr) and not is_simple(expression):

                def edit(
                    block: list[ast.stmt] = block,
                    position: int = position,
                    node: ast.stmt = node,
                    e: ast.expr = expression,
                ) -> None:
                    block.insert(position, ast.Assign([ast.Name(name, ast.Store())], e))
                    setattr(node, field, ast.Name(name, ast.Load()))

                yield edit


def inline_result(program: Program) -> Iterator[Edit]:
    """`x = e` `return x` → `return e`."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(itertools.pairwise(block)):
            if (
                isinstance(first, ast.Assign)
                and len(first.targets) == 1
                and isinstance(first.targets[0], ast.Name)
                and isinstance(second, ast.Return)
                and isinstance(second.value, ast.Name)
                and second.value.id == first.targets[0].id
                and not _is_shared(program, second.value.id)
            ):
                new = ast.Return(first.value)
                yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 2), [new])


def rename_locals(program: Program, rng: random.Random) -> None:
    """Give local names other names, the same one wherever a name occurs; parameters keep theirs.

    One mapping for the whole module, injective over all identifiers, so no two names can come to clash.
    """
    tree = program.tree
    fixed = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            fixed.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            fixed.add(node.name)
        elif isinstance(node, ast.alias):
            fixed.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            fixed.add(node.name)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            fixed.update(node.names)
    inside = {name for function in functions(tree) for name in stored_names(function)}
    outside = {
        name
        for statement in tree.body
        if not isinstance(statement, SCOPES)
        for name in stored_names(statement)
    }
    old = sorted((inside - outside) - fixed)
    taken = fixed | outside | set(old) | loaded_names(tree)
    free = [name for name in LOCAL_NAMES if name not in taken]
    rng.shuffle(free)
    chosen = [name for name in old if rng.random() < 0.7]
    names = dict(zip(chosen, free, strict=False))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id = names[node.id]


def _is_shared(program: Program, name: str) -> bool:
    """Whether another function than the one that assigns `name` also uses it (a closure, `nonlocal`, `global`)."""
    users = [
        function
        for function in functions(program.tree)
        if any(isinstance(node, ast.Name) and node.id == name for node in own_nodes(function))
        or any(
            isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names
            for node in own_nodes(function)
        )
    ]
    return len(users) > 1
