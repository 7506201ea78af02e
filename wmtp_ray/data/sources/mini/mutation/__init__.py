"""Mutations: small edits of the kind that people make, which usually break a program.

Whether one did, running it decides.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wmtp_ray.data.sources.mini.formatter import format_program
from wmtp_ray.data.sources.mini.kinds import Signature
from wmtp_ray.data.sources.mini.mutation import expressions, statements
from wmtp_ray.data.sources.mini.mutation.endless import is_endless
from wmtp_ray.data.sources.mini.span import changed_span
from wmtp_ray.data.sources.mini.trees import Edit, Program

OPERATORS: dict[str, Callable[[Program], Iterator[Edit]]] = {
    operator.__name__: operator
    for operator in (
        expressions.constant_off_by_one,
        expressions.comparison,
        expressions.arithmetic,
        expressions.boolean,
        expressions.negated_condition,
        expressions.wrong_variable,
        expressions.range_bound,
        expressions.swapped_operands,
        expressions.shifted_index,
        expressions.dropped_bound,
        expressions.added_condition,
        expressions.twin_function,
        expressions.extra_arithmetic,
        statements.removed_statement,
        statements.doubled_statement,
        statements.swapped_statements,
        statements.indented_statement,
        statements.dedented_statement,
        statements.wrong_return,
        statements.early_return,
        statements.wrong_jump,
        statements.early_break,
        statements.wrong_start,
    )
}


@dataclass(frozen=True)
class Mutant:
    """A mutated program. `span` is the half-open span of characters of `text` where it departs from its original."""

    text: str
    operator: str
    span: tuple[int, int]


def mutants(text: str, signature: Signature, rng: random.Random) -> Iterator[Mutant]:
    """Mutants of one program, one edit each; the operators take turns in a random order.

    Texts equal to the original, and programs that obviously never end, are left out. Stops when every edit was tried.
    """
    untried: dict[str, list[int]] = {}
    names = sorted(OPERATORS)
    seen = {text}
    while names:
        rng.shuffle(names)
        for name in list(names):
            program = Program(text, signature)
            edits = list(OPERATORS[name](program))
            queue = untried.setdefault(name, rng.sample(range(len(edits)), len(edits)))
            if not queue:
                names.remove(name)
                continue
            edits[queue.pop()]()
            changed = format_program(program.tree)
            if changed in seen or is_endless(ast.parse(changed)):
                continue
            seen.add(changed)
            yield Mutant(changed, name, changed_span(text, changed))
