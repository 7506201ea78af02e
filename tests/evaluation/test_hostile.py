"""Hostile programs do not pass, the judge survives them, and the next honest program still passes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.evaluation.hostile import C_LIBRARY, PROBES, QUICK, SLOW
from wmtp_ray.data.records import Case, Tests
from wmtp_ray.evaluation.cgroup import _parents
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.verify import Verdict, verify

CALL = Tests("call", cases=(Case("f(1)", "2"), Case("f(41)", "42")))
ASSERT = Tests(
    "assert", entry_point="f", code="def check(g):\n    assert g(1) == 2\n    assert g(41) == 42\n"
)
STDIO = Tests("stdio", cases=(Case("1", "2"), Case("41", "42")))
HONEST = "def f(x):\n    return x + 1\n"
SHORT = Limits(cpu_seconds=1, wall_seconds=3, memory_mb=512, output_mb=4)


KINDS = [
    pytest.param(CALL, id="call"),
    pytest.param(ASSERT, id="assert"),
    pytest.param(STDIO, id="stdio", marks=pytest.mark.slow),
]


def asked(program: str, tests: Tests) -> str:
    """The program as its tests want it: with input and output of its own, or to be called."""
    return f"{program}\nprint(f(int(input())))\n" if tests.kind == "stdio" else program


@pytest.mark.parametrize("tests", KINDS)
def test_the_honest_program_passes(tests: Tests) -> None:
    verdict = verify(asked(HONEST, tests), tests)
    assert verdict.passed and verdict.cases_passed == verdict.cases, verdict


@pytest.mark.parametrize("tests", KINDS)
@pytest.mark.parametrize("name", QUICK)
def test_no_trick_passes(name: str, tests: Tests) -> None:
    verdict = verify(asked(QUICK[name], tests), tests, SHORT)
    assert not verdict.passed and verdict.status != "sandbox_fault", verdict
    assert verify(asked(HONEST, tests), tests).passed


@pytest.fixture(scope="module")
def endless() -> dict[tuple[str, str], tuple[Verdict, Verdict]]:
    """By program and kind of tests: its verdict, and that of the honest program after it. Four at a time, since most of
    them only wait for their end."""

    def judged(key: tuple[str, str]) -> tuple[Verdict, Verdict]:
        tests = {"call": CALL, "assert": ASSERT}[key[1]]
        return verify(asked(SLOW[key[0]], tests), tests, SHORT), verify(asked(HONEST, tests), tests)

    keys = [(name, kind) for name in SLOW for kind in ("call", "assert")]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(keys, pool.map(judged, keys), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["call", "assert"])
@pytest.mark.parametrize("name", SLOW)
def test_limits_end_what_does_not_end(
    name: str, kind: str, endless: dict[tuple[str, str], tuple[Verdict, Verdict]]
) -> None:
    verdict, honest = endless[name, kind]
    assert not verdict.passed and verdict.status != "sandbox_fault", verdict
    assert verdict.seconds < SHORT.wall_seconds + 3
    assert honest.passed


@pytest.mark.parametrize("name", PROBES)
def test_the_sandbox_shows_and_allows_nothing(name: str) -> None:
    attempt = f"    try:\n        {PROBES[name]}\n    except (OSError, ImportError, KeyError):\n        return x + 1\n"
    verdict = verify(f"{C_LIBRARY}def f(x):\n{attempt}", CALL)
    assert verdict.passed, f"{name} was possible: {verdict}"


def test_processes_are_limited_also_for_root() -> None:
    program = "\n".join(
        (
            "import os, time",
            "def f(x):",
            "    for n in range(200):",
            "        try:",
            "            child = os.fork()",
            "        except OSError:",
            "            return n",
            "        if child == 0:",
            "            time.sleep(5)",
            "            os._exit(0)",
        )
    )
    limits = Limits(processes=8, total_memory_mb=8 * 1024)
    [case] = [Case("f(0)", str(limits.processes - 1))]
    verdict = verify(program, Tests("call", cases=(case,)), limits)
    assert verdict.passed, verdict


def test_nothing_is_left_in_the_temporary_directory() -> None:
    program = "import os\nopen('/tmp/left', 'w').write('x')\ndef f(x):\n    return sorted(os.listdir('/tmp'))"
    for _ in range(2):
        assert verify(program, Tests("call", cases=(Case("f(0)", "['left']"),))).passed
    assert not Path("/tmp/left").exists()


@pytest.mark.slow
def test_a_killed_judge_leaves_no_sandbox_behind() -> None:
    script = (
        "from wmtp_ray.data.records import Case, Tests\nfrom wmtp_ray.evaluation.sandbox import isolation\n"
        "from wmtp_ray.evaluation.verify import verify\nisolation()\nprint('ready', flush=True)\n"
        "verify('import time\\ntime.sleep(600)', Tests('call', cases=(Case('1', '1'),)))"
    )
    judge = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert judge.stdout is not None and judge.stdout.readline() == "ready\n"
    time.sleep(2)
    children = _children(judge.pid)
    assert children

    def left() -> list[Path]:
        groups = [group for parent in _parents() or () for group in parent.glob(f"wmtp-{judge.pid}-*")]
        return groups + [place for pid in children if (place := Path(f"/proc/{pid}")).exists()]

    assert len(left()) > len(children) or _parents() is None, "it has a control group"
    judge.send_signal(signal.SIGKILL)
    judge.wait()
    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left()


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
