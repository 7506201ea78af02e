from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from tests.data.mini.samples import SAMPLES
from wmtp_ray.data.sources.mini.cases import make_tests
from wmtp_ray.data.sources.mini.formatter import format_program
from wmtp_ray.data.sources.mini.kinds import ANY, INT, STR, Kind, Signature
from wmtp_ray.data.sources.mini.rewrites import RULES, shape, variants
from wmtp_ray.data.sources.mini.rewrites.naming import rename_locals
from wmtp_ray.data.sources.mini.trees import Program

INTS = Signature("f", (INT, INT, INT), INT)
LISTS = Signature("f", (Kind("list", INT), INT), ANY)
TEXTS = Signature("f", (STR, STR), ANY)

# rule, what is known of the parameters, body before, one body that it may become
EXAMPLES = [
    ("swap_comparison", INTS, "return a < b", "return b > a"),
    (
        "invert_branches",
        INTS,
        "if a == b:\n    return 1\nelse:\n    return 2",
        "if a != b:\n    return 2\nelse:\n    return 1",
    ),
    ("invert_branches", INTS, "return 1 if a in (b, c) else 2", "return 2 if a not in (b, c) else 1"),
    ("drop_else", INTS, "if a:\n    return 1\nelse:\n    return 2", "if a:\n    return 1\nreturn 2"),
    ("add_else", INTS, "if a:\n    return 1\nreturn 2", "if a:\n    return 1\nelse:\n    return 2"),
    (
        "guard_loop_body",
        INTS,
        "for i in range(a):\n    if i > b:\n        c += 1\n        b += 1\nreturn c",
        "for i in range(a):\n    if i <= b:\n        continue\n    c += 1\n    b += 1\nreturn c",
    ),
    ("de_morgan", INTS, "return not (a == 1 and b < 2)", "return a != 1 or b >= 2"),
    (
        "de_morgan",
        INTS,
        "if a or b:\n    return 1\nreturn 2",
        "if not (not a and (not b)):\n    return 1\nreturn 2",
    ),
    (
        "nest_conditions",
        INTS,
        "if a and b:\n    return 1\nreturn 2",
        "if a:\n    if b:\n        return 1\nreturn 2",
    ),
    (
        "merge_conditions",
        INTS,
        "if a:\n    if b:\n        return 1\nreturn 2",
        "if a and b:\n    return 1\nreturn 2",
    ),
    ("split_chain", INTS, "return a <= b < c", "return a <= b and b < c"),
    ("merge_chain", INTS, "return a <= b and b < c", "return a <= b < c"),
    ("shift_comparison", INTS, "return a > 0", "return a >= 1"),
    ("shift_comparison", INTS, "return a < b + 1", "return a <= b"),
    ("emptiness", LISTS, "if len(a) == 0:\n    return 1\nreturn 2", "if not a:\n    return 1\nreturn 2"),
    ("emptiness", INTS, "if a % 2 == 1:\n    return 1\nreturn 2", "if a % 2 != 0:\n    return 1\nreturn 2"),
    ("expand_augmented", INTS, "a += 1\nreturn a", "a = a + 1\nreturn a"),
    ("contract_augmented", INTS, "a = a + 1\nreturn a", "a += 1\nreturn a"),
    ("split_tuple_assignment", INTS, "a, b = b, a + b\nreturn a", "tmp = b\nb = a + b\na = tmp\nreturn a"),
    ("split_tuple_assignment", INTS, "x, y = a, x0(b)\nreturn x", None),
    ("swap_assignments", INTS, "x = a\ny = b\nreturn x - y", "y = b\nx = a\nreturn x - y"),
    ("swap_assignments", INTS, "x = a\ny = x\nreturn y", None),
    ("join_assignments", INTS, "x = a\ny = b\nreturn x - y", "x, y = a, b\nreturn x - y"),
    ("expand_conditional", INTS, "return a if b else c", "if b:\n    return a\nreturn c"),
    ("contract_conditional", INTS, "if b:\n    return a\nreturn c", "return a if b else c"),
    ("branch_on_truth", INTS, "return a < b", "if a < b:\n    return True\nreturn False"),
    ("return_truth", INTS, "if a < b:\n    return True\nreturn False", "return a < b"),
    ("return_truth", INTS, "if a:\n    return True\nreturn False", None),
    (
        "extract_condition_branch",
        INTS,
        "if a or b:\n    return 1\nreturn 2",
        "if a:\n    return 1\nif b:\n    return 1\nreturn 2",
    ),
    (
        "merge_condition_branches",
        INTS,
        "if a:\n    return 1\nif b:\n    return 1\nreturn 2",
        "if a or b:\n    return 1\nreturn 2",
    ),
    ("name_result", INTS, "return a + b", "result = a + b\nreturn result"),
    (
        "name_condition",
        INTS,
        "if a > b:\n    return 1\nreturn 2",
        "found = a > b\nif found:\n    return 1\nreturn 2",
    ),
    ("inline_result", INTS, "x = a + b\nreturn x", "return a + b"),
    (
        "for_to_while",
        INTS,
        "s = 0\nfor i in range(a, b, 2):\n    s += i\nreturn s",
        "s = 0\ni = a\nwhile i < b:\n    s += i\n    i += 2\nreturn s",
    ),
    ("for_to_while", INTS, "for i in range(a):\n    a -= 1\nreturn a", None),  # the bound changes
    ("for_to_while", INTS, "for i in range(a):\n    b += 1\nreturn i", None),  # the last `i` is read
    ("for_to_while", INTS, "for i in range(a):\n    if b:\n        continue\n    b += 1\nreturn b", None),
    ("for_to_while", LISTS, "for i in range(len(a)):\n    a.pop()\nreturn a", None),
    (
        "while_to_for",
        INTS,
        "i = a\nwhile i <= b:\n    c += i\n    i += 1\nreturn c",
        "for i in range(a, b + 1):\n    c += i\nreturn c",
    ),
    (
        "elements_to_indices",
        LISTS,
        "for x in a:\n    b += x\nreturn b",
        "for i in range(len(a)):\n    x = a[i]\n    b += x\nreturn b",
    ),
    ("elements_to_indices", LISTS, "for x in a:\n    a.append(x)\nreturn b", None),
    (
        "enumerate_to_indices",
        LISTS,
        "for i, x in enumerate(a):\n    b += x\nreturn b",
        "for i in range(len(a)):\n    x = a[i]\n    b += x\nreturn b",
    ),
    (
        "indices_to_enumerate",
        LISTS,
        "for i in range(len(a)):\n    b += a[i]\nreturn b",
        "for i, x in enumerate(a):\n    b += x\nreturn b",
    ),
    ("indices_to_enumerate", LISTS, "for i in range(len(a)):\n    a[i] = 0\nreturn a", None),
    (
        "test_inside",
        INTS,
        "while a > b:\n    a -= 1\nreturn a",
        "while True:\n    if a <= b:\n        break\n    a -= 1\nreturn a",
    ),
    (
        "test_outside",
        INTS,
        "while True:\n    if a <= b:\n        break\n    a -= 1\nreturn a",
        "while a > b:\n    a -= 1\nreturn a",
    ),
    (
        "comprehension_to_loop",
        LISTS,
        "return [x + 1 for x in a if x > b]",
        "result = []\nfor x in a:\n    if x > b:\n        result.append(x + 1)\nreturn result",
    ),
    (
        "comprehension_to_loop",
        LISTS,
        "return all(x > b for x in a)",
        "for x in a:\n    if not x > b:\n        return False\nreturn True",
    ),
    (
        "comprehension_to_loop",
        LISTS,
        "x = 1\ny = [x for x in a]\nreturn x",
        None,
    ),  # the outer `x` would change
    (
        "loop_to_comprehension",
        LISTS,
        "s = 0\nfor x in a:\n    if x > b:\n        s += x\nreturn s",
        "s = sum(x for x in a if x > b)\nreturn s",
    ),
    ("loop_to_comprehension", LISTS, "s = []\nfor x in a:\n    s.append(x + len(s))\nreturn s", None),
    ("commute", INTS, "return a + b", "return b + a"),
    ("commute", TEXTS, "return a + b", None),
    ("reorder_extremes", INTS, "return max(a, b)", "return max(b, a)"),
    ("extreme_to_conditional", INTS, "return min(a, b)", "return a if a <= b else b"),
    ("conditional_to_extreme", INTS, "return b if a < b else a", "return max(b, a)"),
    ("square", INTS, "return a ** 2", "return a * a"),
    ("reverse", TEXTS, "return a[::-1]", "return ''.join(reversed(a))"),
    ("reverse", LISTS, "return list(reversed(a))", "return a[::-1]"),
    ("range_start", INTS, "return sum(range(a))", "return sum(range(0, a))"),
    ("gather", LISTS, "return sum(x for x in a)", "return sum([x for x in a])"),
    ("count_truth", LISTS, "return sum(x > b for x in a)", "return sum(1 for x in a if x > b)"),
    ("map_to_comprehension", LISTS, "return sum(map(abs, a))", "return sum(abs(item) for item in a)"),
    ("extend_division", INTS, "return a % 10", "return a - a // 10 * 10"),
]


def program_of(body: str) -> str:
    return "def f(a, b, c):\n" + "".join(f"    {line}\n" for line in body.split("\n"))


def outcomes(rule: str, body: str, signature: Signature) -> list[str]:
    count = len(list(RULES[rule](Program(program_of(body), signature))))
    found = []
    for number in range(count):
        program = Program(program_of(body), signature)
        list(RULES[rule](program))[number]()
        found.append(format_program(program.tree))
    return found


@pytest.mark.parametrize(("rule", "signature", "before", "after"), EXAMPLES)
def test_rule(rule: str, signature: Signature, before: str, after: str | None):
    found = outcomes(rule, before, signature)
    if after is None:
        assert found == []
    else:
        assert program_of(after) in found


def test_every_rule_has_an_example():
    assert {rule for rule, _, _, after in EXAMPLES if after} == set(RULES)


def run(text: str, name: str, arguments: list[tuple]) -> list[Any]:
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    return [namespace[name](*copy.deepcopy(values)) for values in arguments]


@pytest.mark.parametrize("problem", SAMPLES, ids=lambda problem: problem.name)
def test_variants_mean_the_same(problem):
    _, _, signature = make_tests(problem)
    rng = random.Random(7)
    arguments = [problem.generate(rng) for _ in range(50)]
    expected = run(problem.references[0], problem.name, arguments)
    found = variants(problem.references, signature, 16, random.Random(1))
    assert len({variant.text for variant in found}) == 16
    assert [variant.is_reference for variant in found].count(True) == len(problem.references)
    for variant in found:
        assert run(variant.text, problem.name, arguments) == expected, variant


def test_renaming_keeps_meaning_parameters_and_functions():
    text = "LIMIT = 3\n\ndef f(a, b):\n    c = a\n    for x in b:\n        c += x if x < LIMIT else 0\n    return c\n"
    for seed in range(20):
        program = Program(text, Signature("f", (INT, Kind("list", INT)), INT))
        rename_locals(program, random.Random(seed))
        renamed = format_program(program.tree)
        assert run(renamed, "f", [(1, [1, 2, 3])]) == [4]
        assert shape(renamed) == shape(text)
        assert "def f(a, b)" in renamed and "LIMIT" in renamed
