from __future__ import annotations

import ast
import random

import pytest

from tests.data.mini.samples import SAMPLES
from tests.data.mini.test_rewrites import INTS, LISTS, TEXTS, program_of
from wmtp_ray.data.sources.mini.cases import make_tests
from wmtp_ray.data.sources.mini.formatter import format_program
from wmtp_ray.data.sources.mini.kinds import Signature
from wmtp_ray.data.sources.mini.mutation import OPERATORS, mutants
from wmtp_ray.data.sources.mini.mutation.endless import is_endless
from wmtp_ray.data.sources.mini.trees import Program

EXAMPLES = [
    ("constant_off_by_one", INTS, "return a + 2", "return a + 3"),
    ("comparison", INTS, "return a < b", "return a <= b"),
    ("arithmetic", INTS, "return a - b", "return a + b"),
    ("arithmetic", INTS, "a += b\nreturn a", "a -= b\nreturn a"),
    ("arithmetic", TEXTS, "return a + b", None),
    ("boolean", INTS, "return a and b", "return a or b"),
    ("negated_condition", INTS, "return a if a > b else b", "return a if a <= b else b"),
    ("wrong_variable", INTS, "return a - b", "return c - b"),
    ("range_bound", INTS, "return sum(range(a))", "return sum(range(a - 1))"),
    ("range_bound", INTS, "return sum(range(1, a + 1))", "return sum(range(1, a))"),
    ("swapped_operands", INTS, "return a - b", "return b - a"),
    ("swapped_operands", INTS, "return f(a, b)", "return f(b, a)"),
    ("swapped_operands", INTS, "return max(a, b)", None),
    ("swapped_operands", TEXTS, "return a + b", "return b + a"),
    ("shifted_index", LISTS, "return a[b]", "return a[b + 1]"),
    ("dropped_bound", LISTS, "return a[1:b]", "return a[:b]"),
    ("added_condition", INTS, "return a if b else c", "return a if b and a else c"),
    ("twin_function", INTS, "return min(a, b)", "return max(a, b)"),
    ("extra_arithmetic", INTS, "return a // 2", "return a // 2 + 1"),
    ("removed_statement", INTS, "a += 1\nreturn a", "return a"),
    ("removed_statement", INTS, "x = 1\nreturn x", None),
    ("doubled_statement", INTS, "a += 1\nreturn a", "a += 1\na += 1\nreturn a"),
    ("swapped_statements", INTS, "a += b\nb += 1\nreturn a", None),
    ("swapped_statements", INTS, "a += b\nb += a\nreturn a", "b += a\na += b\nreturn a"),
    (
        "indented_statement",
        LISTS,
        "for x in a:\n    b += x\nreturn b",
        "for x in a:\n    b += x\n    return b\nreturn b",
    ),
    (
        "dedented_statement",
        LISTS,
        "for x in a:\n    b += x\n    b += 1\nreturn b",
        "for x in a:\n    b += x\nb += 1\nreturn b",
    ),
    (
        "wrong_return",
        INTS,
        "if a < b:\n    return True\nreturn False",
        "if a < b:\n    return False\nreturn False",
    ),
    (
        "early_return",
        LISTS,
        "for x in a:\n    if x:\n        b += x\nreturn b",
        "for x in a:\n    if x:\n        b += x\n        return b\nreturn b",
    ),
    ("wrong_jump", INTS, "while a:\n    break\nreturn a", "while a:\n    continue\nreturn a"),
    (
        "early_break",
        LISTS,
        "for x in a:\n    if x:\n        b += x\nreturn b",
        "for x in a:\n    if x:\n        b += x\n        break\nreturn b",
    ),
    ("wrong_start", INTS, "x = 0\nreturn x + a", "x = 1\nreturn x + a"),
]


@pytest.mark.parametrize(("operator", "signature", "before", "after"), EXAMPLES)
def test_operator(operator: str, signature: Signature, before: str, after: str | None):
    found = []
    for number in range(len(list(OPERATORS[operator](Program(program_of(before), signature))))):
        program = Program(program_of(before), signature)
        list(OPERATORS[operator](program))[number]()
        found.append(format_program(program.tree))
    if after is None:
        assert found == []
    else:
        assert program_of(after) in found


def test_every_operator_has_an_example():
    assert {operator for operator, _, _, after in EXAMPLES if after} == set(OPERATORS)


@pytest.mark.parametrize("problem", SAMPLES, ids=lambda problem: problem.name)
def test_mutants_are_new_programs_that_depart_at_their_span(problem):
    _, _, signature = make_tests(problem)
    for reference in problem.references:
        text = format_program(ast.parse(reference))
        found = list(mutants(text, signature, random.Random(3)))
        assert len({mutant.text for mutant in found} | {text}) == len(found) + 1
        for mutant in found:
            start, end = mutant.span
            assert 0 <= start < end <= len(mutant.text)
            assert mutant.text == format_program(ast.parse(mutant.text))
            before = mutant.text[:start]  # nothing but indentation may differ before the span
            common = next(
                (i for i, (x, y) in enumerate(zip(text, before, strict=False)) if x != y), len(before)
            )
            assert before[common:].strip() == "", mutant


@pytest.mark.parametrize(
    ("body", "endless"),
    [
        ("while a > 0:\n    b += 1\nreturn b", True),
        ("while a > 0:\n    a -= 1\nreturn b", False),
        ("while a > 0:\n    if b:\n        break\n    b += 1\nreturn b", False),
        ("while a > 0:\n    if c:\n        break\n    b += 1\nreturn b", True),
        ("while True:\n    b += 1\n    if b > a:\n        return b", False),
        ("while a:\n    a.pop()\nreturn b", False),
        ("while a >= 0:\n    a //= 10\nreturn b", True),
        ("while a > 0:\n    a //= 10\nreturn b", False),
        ("while True:\n    if a < 0:\n        break\n    a //= 10\nreturn b", True),
    ],
)
def test_obviously_endless_loops_are_seen(body: str, endless: bool):
    assert is_endless(ast.parse(program_of(body))) is endless
