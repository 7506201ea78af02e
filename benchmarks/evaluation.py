"""The sandbox beside a bare interpreter, and how many programs a second two cores judge."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.figure import Figure, NotMeasured
from wmtp_ray.data.records import Case, Tests
from wmtp_ray.errors import SandboxError
from wmtp_ray.evaluation.sandbox import isolation
from wmtp_ray.evaluation.verify import verify, verify_many

PROGRAM = "def f(x):\n    return sum(i * i for i in range(x))\n"
CALLS = Tests(
    "call", cases=tuple(Case(f"f({n})", str(sum(i * i for i in range(n)))) for n in (0, 1, 2, 10, 100))
)
ASSERTS = Tests("assert", code="\n".join(f"assert {case.input} == {case.expected}" for case in CALLS.cases))
REPEATS = 20


def figures() -> Iterator[Figure]:
    """Time of one verdict and of a fresh interpreter that runs the same checks unprotected, in turns."""
    try:
        kind = isolation()
    except SandboxError as error:
        raise NotMeasured(str(error)) from None
    bare = [sys.executable, "-I", "-c", f"{PROGRAM}\n{ASSERTS.code}"]
    seconds = _alternate(
        bare=lambda: subprocess.run(bare, check=True),
        call=lambda: verify(PROGRAM, CALLS),
        asserts=lambda: verify(PROGRAM, ASSERTS),
    )
    counterpart = f"python -I {1000 * seconds['bare']:.1f} ms, isolation {kind}"
    yield Figure("verify_vs_bare_interpreter", seconds["call"] / seconds["bare"], "x time", counterpart)
    yield Figure(
        "verify_asserts_vs_bare_interpreter", seconds["asserts"] / seconds["bare"], "x time", counterpart
    )
    yield Figure("verify_call", 1000 * seconds["call"], "ms", counterpart)
    begun = time.perf_counter()
    count = sum(verdict.passed for verdict in verify_many([(PROGRAM, CALLS)] * 100))
    one_by_one = f"one by one {1 / seconds['call']:.0f}/s"
    yield Figure("verified_programs", count / (time.perf_counter() - begun), "programs/s", one_by_one)


def _alternate(**timed: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each, measured in turns so that all meet the same noise."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(REPEATS):
        for name, run in timed.items():
            begun = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - begun)
    return {name: sorted(times)[REPEATS // 2] for name, times in found.items()}
