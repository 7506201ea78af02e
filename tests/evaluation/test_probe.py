"""The probe finds the holes that are there, and this machine has none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wmtp_ray.data.records import Case, Tests
from wmtp_ray.errors import SandboxError
from wmtp_ray.evaluation import cgroup, probe, sandbox
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.probe import Protection, protection
from wmtp_ray.evaluation.verify import verify

FORK_AND_FILL = """
import os, time
def f(x):
    for _ in range(3):
        try:
            child = os.fork()
        except OSError:
            return x + 1
        if child == 0:
            held = bytearray(os.urandom(1 << 16) * 2000)
            time.sleep(20)
    os.wait()
    time.sleep(1)
    return x
"""


def test_this_machine_holds_every_limit() -> None:
    found = protection()
    assert found.level == "strict" and str(found).startswith("strict (bubblewrap as ")
    found.require("strict")


def test_less_than_strict_is_refused_unless_accepted() -> None:
    found = Protection("root", False, True, ("the network", "open files"))
    with pytest.raises(
        SandboxError, match=r"exceed or reach the network, open files; .*judge.isolation=partial"
    ):
        found.require("strict")
    found.require("partial")
    assert "not held: the network, open files" in str(found)


def test_a_sandbox_without_limits_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "rlimits", lambda self, total_is_counted, own_processes: {})
    monkeypatch.setattr(sandbox, "make_cgroup", lambda limits: None)
    assert set(probe._direct()) == {"memory of a process", "open files", "the number of processes"}
    assert list(probe._shared_memory()) == ["memory of all processes"]
    assert list(probe._detached_memory()) == []
    monkeypatch.setattr(sandbox, "filter_program", lambda: None)
    assert list(probe._detached_memory()) == ["memory of no process"]


def test_a_sandbox_with_the_machines_network_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    command = sandbox._command
    shared = {"--unshare-net": "--unshare-uts"}
    monkeypatch.setattr(
        sandbox, "_command", lambda kind, mb: tuple(shared.get(word, word) for word in command(kind, mb))
    )
    assert list(probe._direct()) == ["the network"]


def test_a_sandbox_with_a_second_writable_place_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an ordinary user: what is mounted in a user namespace belongs to the program."""
    task = {"mode": "stdio", "setup": "", "program": ""}
    [outcome] = sandbox.finish([sandbox.start(task, Limits(), "user_namespace")], Limits())
    if not outcome.started:
        pytest.skip("no user namespaces here")
    monkeypatch.setattr(sandbox, "isolation", lambda: "user_namespace")
    assert "places beside /tmp" not in set(probe._direct())
    command = sandbox._command

    def writable(kind: sandbox.Isolation, mb: int) -> tuple[str, ...]:
        words = command(kind, mb)
        start = words.index("--remount-ro")
        return words[:start] + words[start + 2 :]

    monkeypatch.setattr(sandbox, "_command", writable)
    assert "places beside /tmp" in set(probe._direct())


@pytest.mark.parametrize("counted", [True, False])
def test_all_processes_together_stay_below_the_total(monkeypatch: pytest.MonkeyPatch, counted: bool) -> None:
    if not counted:
        monkeypatch.setattr(sandbox, "make_cgroup", lambda limits: None)
    elif cgroup._parents() is None:
        pytest.skip("no control group can be made here")
    limits = Limits(memory_mb=256, total_memory_mb=256)
    verdict = verify(FORK_AND_FILL, Tests("call", cases=(Case("f(1)", "2"),)), limits)
    assert (verdict.status == "memory") if counted else verdict.passed, "without a group it may not fork"


def test_groups_are_gone_afterwards_and_those_of_dead_judges_too() -> None:
    parents = cgroup._parents()
    if parents is None:
        pytest.skip("no control group can be made here")
    dead = subprocess.Popen(["/bin/true"])
    dead.wait()
    left = [parent / f"wmtp-{dead.pid}-0" for parent in parents]
    for folder in left:
        folder.mkdir()
    cgroup._sweep(parents)
    assert verify("def f(x): return x", Tests("call", cases=(Case("f(1)", "1"),))).passed
    own = f"wmtp-{Path('/proc/self').resolve().name}-*"
    assert not any(folder.exists() for folder in left)
    assert not [folder for parent in parents for folder in parent.glob(own)]
