"""Does a program pass its tests? The program runs in the sandbox; the verdict is reached outside.

- `call`: the sandbox evaluates each call and sends back the result in a strict encoding (`exchange`); it is
  compared here with the expected literal, which never enters the sandbox. Nothing inside can forge a pass:
  what it sends is only ever an answer.
- `stdio`: one fresh process per case; standard output is compared here, token by token after splitting on
  white space, numbers as near as the tests allow.
- `assert`: test code cannot be judged from outside, so it runs in a second sandbox of its own, where the
  program's functions are proxies that call into the program's sandbox and hand back plain values. No line of
  the program ever runs beside the tests: there are no frames to read, no builtins or `assert` helpers to
  patch, no `__eq__` to override, no marker to print, and the tests have passed only if the second process
  says that it reached their end.

Equality (`call`): Python's `==` on plain values, with these differences: True, False and None equal only
themselves (1 is not True); where the expected number is a float, a difference of 1e-6 (relative or absolute)
is allowed; nan equals nan.

What remains: a program may recognise its test inputs; test code that takes an expected value from the
program's own helper functions trusts them (HumanEval's come from the prompt, see `benchmarks`); objects that
are not made of builtin types cannot be compared, so that code returning them fails where an `==` of its own
would have passed; whether they are true is for the program to say, as it is of the plain values it returns.
"""

from __future__ import annotations

import ast
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from wmtp_ray.data.records import Tests, expected_value
from wmtp_ray.evaluation import sandbox
from wmtp_ray.evaluation.exchange import decode
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.sandbox import Outcome

Status = Literal["passed", "wrong_answer", "error", "syntax_error", "timeout", "memory", "sandbox_fault"]
FLOAT_TOLERANCE = 1e-6
_REPLY_BYTES = 1 << 25


@dataclass(frozen=True)
class Verdict:
    """The judgement on one program. `sandbox_fault` says nothing about the program: it must be repeated,
    never counted."""

    passed: bool
    status: Status
    detail: str
    cases_passed: int
    cases: int
    seconds: float


def verify(program: str, tests: Tests, limits: Limits | None = None) -> Verdict:
    """Run `program` against `tests` in the sandbox.

    `limits` hold for each process: one for all cases of `call`, one per case of `stdio`, two for `assert`.
    Raises `SandboxError` if this machine cannot isolate, `DataError` if the tests themselves are unusable.
    """
    limits = limits or Limits()
    tests.require_usable()
    sandbox.isolation()
    begun = time.monotonic()
    judge = {"call": _verify_calls, "stdio": _verify_stdio, "assert": _verify_asserts}[tests.kind]
    try:
        status, detail, passed_count = judge(program, tests, limits)
    except OSError as error:  # no process, memory or file for it at this moment
        status, detail, passed_count = "sandbox_fault", f"the sandbox did not start: {error}", 0
    count = len(tests.cases) if tests.cases else 1
    return Verdict(status == "passed", status, detail, passed_count, count, time.monotonic() - begun)


def verify_many(
    programs: Iterable[tuple[str, Tests]], limits: Limits | None = None, workers: int | None = None
) -> Iterator[Verdict]:
    """Verdicts in the order of `programs`, at most `workers` sandboxes (default: the number of CPUs) at a
    time."""
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda pair: verify(pair[0], pair[1], limits), programs)


Judgement = tuple[Status, str, int]
_NO_FAILURE: tuple[Status, str] | None = None


def _verify_calls(program: str, tests: Tests, limits: Limits) -> Judgement:
    expected = [expected_value(case.expected) for case in tests.cases]
    task = {
        "mode": "call",
        "setup": tests.setup,
        "program": program,
        "calls": [case.input for case in tests.cases],
    }
    [outcome] = sandbox.finish([sandbox.start(task, limits)], limits)
    lines = outcome.stdout.split(b"\n")[:-1]
    passed_count, first_failure = 0, _NO_FAILURE
    for case, value, line in zip(tests.cases, expected, lines, strict=False):
        failure = _judge_line(line, case.input, value)
        passed_count += failure is None
        first_failure = first_failure or failure
    if first_failure is None and len(lines) != len(expected):
        first_failure = _cause(outcome, f"ended after {len(lines)} of {len(expected)} cases")
    status, detail = first_failure or ("passed", "")
    return status, detail, passed_count


def _judge_line(line: bytes, call: str, expected: Any) -> tuple[Status, str] | None:
    verb, _, text = line.decode("utf-8", "replace").partition(" ")
    if verb == "V":
        try:
            result = decode(json.loads(text))
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            return "error", f"{call}: the result is malformed"
        if equal(expected, result):
            return None
        return "wrong_answer", f"{call} gave {_short(result)}, expected {_short(expected)}"
    named: dict[str, Status] = {"S": "syntax_error", "M": "memory"}
    return named.get(verb, "error"), text[:400] if verb in "SXM" else f"{call}: {text[:400]}"


def _verify_stdio(program: str, tests: Tests, limits: Limits) -> Judgement:
    task = {"mode": "stdio", "setup": tests.setup, "program": program}
    passed_count, first_failure = 0, _NO_FAILURE
    for number, case in enumerate(tests.cases):
        running = sandbox.start(task, limits, stdin=case.input.encode())
        [outcome] = sandbox.finish([running], limits)
        failure = None
        if not outcome.started or outcome.exit_code or outcome.timed_out or outcome.output_exceeded:
            failure = _cause(outcome, f"case {number}: exit code {outcome.exit_code}")
        elif not same_output(case.expected, outcome.stdout.decode("utf-8", "replace"), tests.tolerance):
            shown = _short(outcome.stdout.decode("utf-8", "replace"))
            failure = ("wrong_answer", f"case {number}: printed {shown}, expected {_short(case.expected)}")
        passed_count += failure is None
        first_failure = first_failure or failure
        if failure is not None and failure[0] not in ("wrong_answer", "error"):
            break  # the same costly or hopeless end would come again in every case
    status, detail = first_failure or ("passed", "")
    return status, detail, passed_count


def _verify_asserts(program: str, tests: Tests, limits: Limits) -> Judgement:
    reply_read, reply_write = os.pipe()
    request_read, request_write = os.pipe()
    serve = {
        "mode": "serve",
        "setup": tests.setup,
        "program": program,
        "requests": request_read,
        "replies": reply_write,
    }
    check = {"mode": "tests", "setup": tests.setup, "tests": tests.code, "entry_point": entry_point(tests)}
    check |= {
        "check": tests.has_check,
        "requests": request_write,
        "replies": reply_read,
        "reply_bytes": _REPLY_BYTES,
    }
    try:
        served = sandbox.start(serve, limits, pass_fds=(request_read, reply_write))
        try:
            checked = sandbox.start(check, limits, pass_fds=(request_write, reply_read))
        except OSError:
            served.process.kill()
            sandbox.finish([served], limits)
            raise
    finally:
        for descriptor in (reply_read, reply_write, request_read, request_write):
            os.close(descriptor)
    program_end, tests_end = sandbox.finish([served, checked], limits)
    if not program_end.started or not tests_end.started:
        status, detail = _cause(tests_end if program_end.started else program_end, "")
        return status, detail, 0
    verb, _, text = tests_end.stdout.decode("utf-8", "replace").rstrip("\n").partition(" ")
    if verb == "D":
        return "passed", "", 1
    if verb == "A":
        return "wrong_answer", text[:400], 0
    if verb == "E":
        return "memory" if text.startswith("MemoryError") else "error", text[:400], 0
    if verb == "G" and text[:1] in ("S", "X", "M"):
        named: dict[str, Status] = {"S": "syntax_error", "M": "memory", "X": "error"}
        return named[text[0]], text[2:402], 0
    end = tests_end if tests_end.timed_out or verb != "G" else program_end
    status, detail = _cause(end, "the program's process ended before its tests did")
    return status, detail, 0


def entry_point(tests: Tests) -> str:
    """The function under test, or "" where the test code calls the program's functions by names of their own.

    A program's function that bears the name of a builtin (MBPP 126 asks for `sum`) replaces the builtin in
    the tests only if the tests call nothing else; otherwise any program could replace `len` or `sorted` in
    the code that judges it.
    """
    if tests.entry_point:
        return tests.entry_point
    calls = (node.func for node in ast.walk(ast.parse(tests.code)) if isinstance(node, ast.Call))
    called = {function.id for function in calls if isinstance(function, ast.Name)}
    return called.pop() if len(called) == 1 else ""


def _cause(outcome: Outcome, otherwise: str) -> tuple[Status, str]:
    """Why a process ended without its results."""
    text = outcome.stderr.decode("utf-8", "replace").strip()
    last_line = text.rsplit("\n", 1)[-1][:400]
    if not outcome.started:
        return "sandbox_fault", last_line or f"the sandbox did not start (exit code {outcome.exit_code})"
    if outcome.timed_out:
        return "timeout", "wall time limit"
    if outcome.output_exceeded:
        return "error", "output limit"
    if outcome.memory_exceeded:
        return "memory", "out of memory, all processes together"
    if outcome.exit_code in (128 + 24, 128 + 9):
        return "timeout", "CPU time limit"
    if last_line.startswith("MemoryError"):
        return "memory", "out of memory"
    if last_line.startswith(("SyntaxError", "IndentationError", "TabError")):
        return "syntax_error", last_line
    return "error", last_line or otherwise


def same_output(expected: str, printed: str, tolerance: float = 0.0) -> bool:
    """Equality of outputs after splitting on white space. With a `tolerance`, tokens that are numbers may differ by
    it, relatively or absolutely; two integers may not.

    >>> same_output("0.5 7", "0.5000001\\n7", 1e-6), same_output("0.5", "0.5000001"), same_output("7", "8", 1e-6)
    (True, False, False)
    """
    tokens, found = expected.split(), printed.split()
    if len(tokens) != len(found):
        return False
    return all(
        a == b or (tolerance > 0 and _near(a, b, tolerance)) for a, b in zip(tokens, found, strict=True)
    )


def _near(expected: str, printed: str, tolerance: float) -> bool:
    try:
        if expected.lstrip("+-").isdecimal() and printed.lstrip("+-").isdecimal():
            return int(expected) == int(printed)
        return math.isclose(float(expected), float(printed), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False


def equal(expected: Any, result: Any) -> bool:
    """Equality of plain values as the module says. `equal(1, True)` is False, `equal(0.5, 0.5000001)` is
    True."""
    if isinstance(expected, bool) or isinstance(result, bool) or expected is None or result is None:
        return expected is result
    if isinstance(expected, float | int) and isinstance(result, float | int):
        if isinstance(expected, int):
            return expected == result
        try:
            near = math.isclose(expected, result, rel_tol=FLOAT_TOLERANCE, abs_tol=FLOAT_TOLERANCE)
        except OverflowError:  # an int beyond every float
            return False
        return near or (expected != expected and result != result)
    if isinstance(expected, list | tuple) and type(expected) is type(result):
        return len(expected) == len(result) and all(map(equal, expected, result))
    if isinstance(expected, dict) and isinstance(result, dict):
        return _typed(expected) == _typed(result) and all(
            equal(expected[key], result[key]) for key in expected
        )
    if isinstance(expected, set | frozenset) and isinstance(result, set | frozenset):
        return _typed(expected) == _typed(result)
    return type(expected) is type(result) and expected == result


def _typed(keys: Iterable[Any]) -> set[tuple[bool, Any]]:
    """Keys with True told from 1 and False from 0."""
    return {(isinstance(key, bool), key) for key in keys}


def _short(value: Any, length: int = 160) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more than 4,300 digits, or deep nesting
        text = f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= length else text[: length - 1] + "…"
