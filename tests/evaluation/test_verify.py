"""Verdicts on honest programs: each kind of test, equality, limits, and the benchmarks' own reference solutions."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.data.records import Case, Tests
from wmtp_ray.errors import DataError
from wmtp_ray.evaluation import cgroup, sandbox
from wmtp_ray.evaluation.exchange import MAX_SHARING_A_HASH, NotPlain, decode, encode
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.verify import equal, same_output, verify

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_survive_the_exchange(value: object) -> None:
    back = decode(json.loads(encode(value)))
    assert repr(back) == repr(value)


@given(st.sets(st.integers()), st.frozensets(st.text()))
def test_sets_survive_the_exchange(numbers: set[int], texts: frozenset[str]) -> None:
    assert decode(json.loads(encode([numbers, texts]))) == [numbers, texts]


@pytest.mark.parametrize("of", [set, frozenset, dict.fromkeys])
def test_values_that_would_hold_the_judge_are_malformed(of: Callable[[Iterable[object]], object]) -> None:
    """Keys of one hash are each compared with all before it: a million of them would take hours."""
    step = sys.hash_info.modulus
    alike = [number * step for number in range(1, MAX_SHARING_A_HASH + 2)]
    for values in (alike, [(1, value) for value in alike]):
        assert len(set(map(hash, values))) == 1
        assert decode(json.loads(encode(of(values[1:])))) == of(values[1:])
        with pytest.raises(ValueError, match="one hash"):
            decode(json.loads(encode([of(values)])))
    honest = of((x, y) for x in range(-20, 20) for y in range(200))
    assert decode(json.loads(encode(honest))) == honest
    program = f"def f(): return {{n * {step} for n in range(500)}}"
    verdict = verify(program, Tests("call", cases=(Case("f()", "{1}"),)))
    assert verdict.status == "error" and verdict.detail == "f(): the result is malformed"


@pytest.mark.parametrize("value", [object(), range(3), type("Int", (int,), {})(1), [map(str, [])], len])
def test_other_values_are_not_sent(value: object) -> None:
    with pytest.raises(NotPlain):
        encode(value)


@given(PLAIN)
def test_a_value_equals_itself(value: object) -> None:
    assert equal(value, decode(json.loads(encode(value)))) or "nan" in repr(value)


@pytest.mark.parametrize(
    ("expected", "result", "same"),
    [
        (1, True, False),
        (True, 1, False),
        (0, None, False),
        (3, 3.0, True),
        (0.5, 0.5000001, True),
        (0.5, 0.501, False),
        (1e20, 1e20 + 1e10, True),
        (float("nan"), float("nan"), True),
        (float("inf"), 1e308, False),
        ([1, 2], (1, 2), False),
        ([1, [2.0]], [1, [2.0000001]], True),
        ({1: 2.0}, {1: 2.0000001}, True),
        ({1: 2}, {True: 2}, False),
        ({1}, {True}, False),
        ({1, 2}, {2, 1}, True),
        ("1", 1, False),
        ("a", "a", True),
        pytest.param(2.5, 10**400, False, id="beyond floats"),
    ],
)
def test_equality(expected: object, result: object, same: bool) -> None:
    assert equal(expected, result) is same


def test_calls_count_the_cases_that_pass() -> None:
    tests = Tests("call", cases=(Case("f(2)", "4"), Case("f(-2)", "-4"), Case("f('a')", "'aa'")))
    verdict = verify("def f(x):\n    return 2 * abs(x)\n", tests)
    assert (verdict.status, verdict.cases_passed, verdict.cases) == ("wrong_answer", 1, 3)
    assert "f(-2) gave 4, expected -4" in verdict.detail


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(x) return x", "syntax_error"),
        ("def f(x):\n    return y", "error"),
        ("def g(x):\n    return x", "error"),
        ("def f(x):\n    return [0] * 10**12", "memory"),
        ("def f(x):\n    while True: pass", "timeout"),
        ("def f(x):\n    return x", "wrong_answer"),
    ],
)
@pytest.mark.parametrize("kind", ["call", "assert", "stdio"])
def test_failures_have_their_names(program: str, status: str, kind: str) -> None:
    tests = {
        "call": Tests("call", cases=(Case("f(1)", "2"),)),
        "assert": Tests("assert", code="assert f(1) == 2"),
        "stdio": Tests("stdio", cases=(Case("1", "2"),)),
    }[kind]
    if kind == "stdio":
        program += "\nprint(f(int(input())))"
    verdict = verify(program, tests, Limits(cpu_seconds=1))
    assert verdict.status == status, verdict


def test_stdio_compares_tokens_and_wants_a_good_end() -> None:
    tests = Tests("stdio", cases=(Case("1 2\n", "3\n"), Case("5 6", "11")))
    assert verify("print(sum(map(int, input().split())), end='\\n\\n')\nexit()", tests).passed
    assert verify(
        "import sys\nif __name__ == '__main__':\n    print(sum(map(int, sys.stdin.read().split())))", tests
    ).passed
    failed = verify("print(sum(map(int, input().split())))\n1 / 0", tests)
    assert failed.status == "error" and "ZeroDivisionError" in failed.detail


def test_setup_comes_before_the_program() -> None:
    tests = Tests(
        "call", setup="import math\nBASE = 10", cases=(Case("f(2)", "20"), Case("math.gcd(4, BASE)", "2"))
    )
    assert verify("def f(x):\n    return x * BASE", tests).passed


def test_asserts_reach_functions_classes_and_iterators_of_the_program() -> None:
    program = (
        "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
        "def total(pairs): return sum(p.a * p.b for p in pairs)\n"
        "def squares(n): return (i * i for i in range(n))\n"
        "def apply(kind, x): return kind(x)\n"
        "def fail(): raise KeyError('k')\nLIMIT = 7\n"
    )
    code = (
        "assert total([Pair(1, 2), Pair(3, 4)]) == 14\nassert list(squares(4)) == [0, 1, 4, 9]\n"
        "assert apply(int, '3') == 3\nassert LIMIT == 7\n"
        "try:\n    fail()\nexcept KeyError:\n    pass\nelse:\n    assert False\n"
    )
    verdict = verify(program, Tests("assert", code=code))
    assert verdict.passed, verdict


@pytest.mark.parametrize("error", ["StopIteration", "StopAsyncIteration", "GeneratorExit"])
def test_a_program_does_not_end_the_loops_of_its_tests(error: str) -> None:
    code = "assert all(map(f, [1, 2]))\nfor x in map(f, [1]):\n    assert x == 2\n"
    assert verify("def f(x): return x + 1", Tests("assert", code=code)).passed
    verdict = verify(f"def f(x): raise {error}", Tests("assert", code=code))
    assert verdict.status == "error" and error in verdict.detail, verdict


def test_objects_of_the_program_are_true_or_false_but_equal_to_nothing() -> None:
    program = (
        "import re\ndef find(text): return re.search('a+', text)\n"
        "class Yes:\n    def __eq__(self, other): return True\n"
    )
    assert verify(program, Tests("assert", code="assert find('banana')\nassert not find('xyz')")).passed
    assert not verify(program, Tests("assert", code="assert not find('banana')")).passed
    for code in (
        "assert Yes() == 1",
        "assert not Yes() != 1",
        "assert Yes() in [1]",
        "assert [Yes()] == [1]",
    ):
        assert not verify(program, Tests("assert", code=code)).passed


def test_a_program_may_bear_the_name_of_a_builtin_only_as_what_is_asked_for() -> None:
    assert verify("def sum(a, b): return a + b", Tests("assert", code="assert sum(10, 15) == 25")).passed
    tricky = "def f(x): return []\ndef len(x): return 3\n"
    assert not verify(tricky, Tests("assert", code="assert len(f(1)) == 3")).passed


def test_prompts_own_functions_judge_not_the_completions() -> None:
    setup = "def encode(x):\n    return x + 1\ndef decode(x):\n    ...\n"
    tests = Tests(
        "assert", setup=setup, entry_point="decode", code="def check(c):\n    assert c(encode(1)) == 1\n"
    )
    assert verify(f"{setup}\ndef decode(x):\n    return x - 1\n", tests).passed
    assert not verify("def encode(x):\n    return x\ndef decode(x):\n    return x\n", tests).passed


def test_the_same_program_prints_the_same_set_order_each_time() -> None:
    tests = Tests("call", cases=(Case("f()", "1"),))
    results = {
        verify("def f():\n    return list({'abc', 'def', 'ghi', 'jkl'})", tests).detail for _ in range(4)
    }
    assert len(results) == 1


def test_tests_without_checks_are_refused() -> None:
    with pytest.raises(DataError, match="check nothing"):
        verify("x = 1", Tests("assert", code="  "))
    with pytest.raises(DataError, match="not a Python literal"):
        verify("x = 1", Tests("call", cases=(Case("f(1)", "f(2)"),)))


def test_functions_of_the_tests_that_nothing_calls_judge_nothing() -> None:
    """A program without `g` would pass where they are only defined, and fail where `check` is called without it."""
    check = "def check (f):\n    assert f(1) == -1\n"
    uncalled = "def test_neg(): assert g(1) == -1\n"
    seeded = f"import random\nrandom.seed(0)\nprint(1)\n{uncalled}"
    for code in (uncalled, check, f"class T:\n    {uncalled}", f"if True:\n    {uncalled}", seeded):
        with pytest.raises(DataError, match="check nothing"):
            verify("def h(x): return x", Tests("assert", code=code))
    called = {
        Tests("assert", code=check, entry_point="g"),
        Tests("assert", code=f"{check}\ncheck(g)"),
        Tests("assert", code="class T:\n    assert g(1) == -1\n"),
        Tests("assert", code="def test():\n    assert g(1) == -1\nif __name__ == '__main__':\n    test()"),
    }
    for tests in called:
        assert verify("def g(x): return -x", tests).passed
        assert verify("def g(x): return x", tests).status == "wrong_answer"
        assert verify("def h(x): return -x", tests).status == "error"


@pytest.mark.parametrize(
    ("expected", "printed", "tolerance", "same"),
    [
        ("1 2\n3", "1\n2 3\n", 0, True),
        ("1 2", "1", 0, False),
        ("0.5", "0.50", 0, False),
        ("0.5", "0.50", 1e-6, True),
        ("1e3 yes", "1000.0005 yes", 1e-6, True),
        ("0.5", "0.500002", 1e-6, False),
        ("1000000000", "1000000001", 1e-6, False),
        ("0.5", "half", 1e-6, False),
        ("0.0", "nan", 1e-6, False),
        ("YES", "yes", 1e-6, False),
    ],
)
def test_outputs_are_compared_by_tokens(expected: str, printed: str, tolerance: float, same: bool) -> None:
    assert same_output(expected, printed, tolerance) is same


@pytest.mark.parametrize("started_before", [0, 1])
def test_a_machine_without_room_for_a_process_says_nothing_of_the_program(
    started_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = Tests("assert", entry_point="f", code="def check(g):\n    assert g(1) == 2\n")
    program = "def f(x): return x + 1"
    assert verify(program, tests).passed
    popen, started = subprocess.Popen, []

    def crowded(*args: Any, **options: Any) -> Any:
        if len(started) == started_before:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(sandbox.subprocess, "Popen", crowded)
    verdict = verify(program, tests)
    monkeypatch.undo()
    assert verdict.status == "sandbox_fault" and "temporarily unavailable" in verdict.detail
    assert not any(psutil.pid_exists(process.pid) for process in started)
    own = f"wmtp-{Path('/proc/self').resolve().name}-*"
    assert not [group for parent in cgroup._parents() or () for group in parent.glob(own)]
    assert verify(program, tests).passed


def test_without_memory_for_its_task_nothing_of_a_sandbox_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(sandbox.os, "memfd_create", full)
    verdict = verify("x = 1", Tests("assert", code="assert x == 1"))
    assert verdict.status == "sandbox_fault" and "allocate" in verdict.detail
    own = f"wmtp-{Path('/proc/self').resolve().name}-*"
    assert not [group for parent in cgroup._parents() or () for group in parent.glob(own)]
