"""Rewrites that keep a program's meaning and change its text.

They bring every problem to enough different correct programs. Each rule states the conditions under which it is sound;
every program that comes out is still run against the tests.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wmtp_ray.data.sources.mini.formatter import format_program
from wmtp_ray.data.sources.mini.kinds import Signature
from wmtp_ray.data.sources.mini.rewrites import (
    assignments,
    branches,
    comprehensions,
    conditions,
    expressions,
    loops,
    naming,
)
from wmtp_ray.data.sources.mini.trees import Edit, Program

Rule = Callable[[Program], Iterator[Edit]]

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        conditions.swap_comparison,
        conditions.invert_branches,
        conditions.drop_else,
        conditions.add_else,
        conditions.guard_loop_body,
        conditions.de_morgan,
        conditions.nest_conditions,
        conditions.merge_conditions,
        conditions.split_chain,
        conditions.merge_chain,
        conditions.shift_comparison,
        conditions.emptiness,
        assignments.expand_augmented,
        assignments.contract_augmented,
        naming.name_result,
        naming.name_condition,
        naming.inline_result,
        assignments.split_tuple_assignment,
        assignments.swap_assignments,
        assignments.join_assignments,
        branches.expand_conditional,
        branches.contract_conditional,
        branches.branch_on_truth,
        branches.return_truth,
        branches.extract_condition_branch,
        branches.merge_condition_branches,
        loops.for_to_while,
        loops.while_to_for,
        loops.elements_to_indices,
        loops.enumerate_to_indices,
        loops.indices_to_enumerate,
        loops.test_inside,
        loops.test_outside,
        comprehensions.comprehension_to_loop,
        comprehensions.loop_to_comprehension,
        expressions.commute,
        expressions.reorder_extremes,
        expressions.extreme_to_conditional,
        expressions.conditional_to_extreme,
        expressions.square,
        expressions.reverse,
        expressions.range_start,
        expressions.gather,
        expressions.count_truth,
        expressions.map_to_comprehension,
        expressions.extend_division,
    )
}
_STRUCTURAL = frozenset(
    name
    for name, rule in RULES.items()
    if rule.__module__ in (loops.__name__, comprehensions.__name__, branches.__name__)
)
_STRUCTURAL_SHARE = 0.6
"""How often an edit is a structural one if there is any: they change more, but apply to fewer programs."""
_MOST_EDITS = 4
_RENAMED_SHARE = 0.5


@dataclass(frozen=True)
class Variant:
    """A program and how it came about, e.g. `reference 1, for_to_while, rename_locals`."""

    text: str
    provenance: str
    is_reference: bool = False


def variants(
    references: tuple[str, ...], signature: Signature, count: int, rng: random.Random
) -> list[Variant]:
    """The references in the common format, then rewrites of them in turn, until there are `count` different programs.

    Two programs that differ in their local names alone count as different only when nothing else can be found.

    Returns:
        Fewer than `count` where the rules find no more.
    """
    found = [
        Variant(format_program(ast.parse(text)), f"reference {n}", True) for n, text in enumerate(references)
    ]
    texts = {variant.text for variant in found}
    shapes = {shape(variant.text) for variant in found}
    roots = list(found)
    patience = 12 * count
    for attempt in range(2 * patience):
        if len(found) >= count:
            break
        variant = _rewrite(roots[attempt % len(roots)], signature, rng)
        form = shape(variant.text)
        if variant.text in texts or (form in shapes and attempt < patience):
            continue
        found.append(variant)
        texts.add(variant.text)
        shapes.add(form)
    return found


def _rewrite(root: Variant, signature: Signature, rng: random.Random) -> Variant:
    text, steps = root.text, [root.provenance]
    for _ in range(rng.randint(1, _MOST_EDITS)):
        program = Program(text, signature)
        names = sorted(RULES)
        rng.shuffle(names)
        if rng.random() < _STRUCTURAL_SHARE:
            names.sort(key=lambda name: name not in _STRUCTURAL)
        for name in names:
            edits = list(RULES[name](program))
            if edits:
                rng.choice(edits)()
                text = format_program(program.tree)
                steps.append(name)
                break
    if rng.random() < _RENAMED_SHARE:
        program = Program(text, signature)
        naming.rename_locals(program, rng)
        text = format_program(program.tree)
        steps.append("rename_locals")
    return Variant(text, ", ".join(steps))


def shape(text: str) -> str:
    """The program with its names numbered by first appearance: equal for programs that differ in names alone."""
    tree = ast.parse(text)
    numbers: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = numbers.setdefault(node.id, f"n{len(numbers)}")
        elif isinstance(node, ast.arg):
            node.arg = numbers.setdefault(node.arg, f"n{len(numbers)}")
    return ast.dump(tree)
