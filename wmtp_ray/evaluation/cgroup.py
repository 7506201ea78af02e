"""A control group for one sandbox, where this process may make one: the kernel then counts memory and processes of
all that runs in it, together.

Version 1 has a folder for each of the controllers `memory` and `pids`, version 2 one for both. The group is made below
this process's own, or the nearest one above it that allows children.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import logging
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from wmtp_ray.evaluation.limits import Limits

_log = logging.getLogger(__name__)

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("memory", "pids")
_OWN_PROCESSES = 2
"""bubblewrap's two: one outside, one that is process 1 inside."""
_PATIENCE_SECONDS = 10.0
_GUARD = """
exec 3<&0
(
  read -r _ <&3
  for attempt in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for parent do
      for folder in "$parent/$JUDGE"*; do
        [ -d "$folder" ] || continue
        for process in $(cat "$folder/cgroup.procs"); do kill -9 "$process"; done
        rmdir "$folder" || left=1
      done
    done
    [ "$left" ] || exit 0
    sleep 0.2
  done
) &
"""
"""Waits for the end of its input, which is the judge's; then does for its groups what `Cgroup.remove` would have."""
_number = itertools.count()


@dataclass(frozen=True)
class Cgroup:
    """One group: a folder (version 2), or one for each controller (version 1)."""

    folders: tuple[Path, ...]

    def entering(self, command: list[str]) -> list[str]:
        """`command` as one that first moves itself into the group; it is not run if it cannot."""
        moves = [f"echo 0 > {shlex.quote(str(folder / 'cgroup.procs'))}" for folder in self.folders]
        return ["/bin/sh", "-c", " && ".join([*moves, 'exec "$@"']), "sh", *command]

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel ended a process for the memory of all."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                if (folder / name).exists():
                    counts = dict(line.split() for line in (folder / name).read_text().splitlines())
                    return int(counts.get("oom_kill", 0)) > 0
        return False

    def remove(self) -> None:
        """End what still runs in it, and delete it. A killed process leaves its group some time later, and for a moment
        after that the kernel still calls the group busy; one that stays so is left to the guard, and logged."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for folder in self.folders:
            while not _removed(folder):
                if time.monotonic() > deadline:
                    _log.warning(
                        "%s is still busy after %g s; it is deleted later", folder, _PATIENCE_SECONDS
                    )
                    break
                time.sleep(0.002)


def _removed(folder: Path) -> bool:
    """Kill what runs in a group's folder and try to delete it."""
    for pid in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def make_cgroup(limits: Limits) -> Cgroup | None:
    """A new group with the limits of memory and processes, None where this process may not make one."""
    parents = _parents()
    if parents is None:
        return None
    name = f"wmtp-{os.getpid()}-{next(_number)}"
    group = Cgroup(tuple(parent / name for parent in parents))
    for folder in group.folders:
        folder.mkdir()
        memory = str(limits.total_memory_mb << 20)
        for file, value in (
            ("memory.limit_in_bytes", memory),
            ("memory.memsw.limit_in_bytes", memory),
            ("memory.max", memory),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("pids.max", str(limits.processes + _OWN_PROCESSES)),
        ):
            if (folder / file).exists():
                (folder / file).write_text(value)
    return group


@functools.cache
def _parents() -> tuple[Path, ...] | None:
    """Folders in which groups can be made and entered, None if there are none."""
    for candidate in _candidates():
        _sweep(candidate)
        group = Cgroup(tuple(parent / f"wmtp-{os.getpid()}-probe" for parent in candidate))
        made: list[Path] = []
        try:
            for folder in group.folders:
                folder.mkdir()
                made.append(folder)
            files = {file.name for folder in made for file in folder.iterdir()}
            entered = subprocess.run(group.entering(["/bin/true"]), stderr=subprocess.DEVNULL, check=False)
        except OSError:
            continue
        finally:
            for folder in made:
                folder.rmdir()
        counted = "pids.max" in files and files & {"memory.limit_in_bytes", "memory.max"}
        if counted and entered.returncode == 0:
            _guard(candidate)
            return candidate
    return None


def _guard(parents: tuple[Path, ...]) -> None:
    """Start a process, nobody's child, that deletes this one's groups once it is gone, however that happened.

    The kernel deletes no group by itself, and a judge that is killed cannot.
    """
    read, _held = os.pipe()  # the other end closes with this process; none that it starts inherits it
    environment = {"JUDGE": f"wmtp-{os.getpid()}-", "PATH": "/usr/bin:/bin"}
    with os.fdopen(read) as end:
        subprocess.run(
            ["/bin/sh", "-c", _GUARD, "sh", *map(str, parents)],
            stdin=end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            check=True,
        )


def _candidates() -> list[tuple[Path, ...]]:
    """For each hierarchy that has the controllers, this process's own group and those above it."""
    places: dict[str, Path] = {}
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:  # "8:pids:/some/group"; version 2 is "0::/some/group"
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            places[controller] = Path(path.lstrip("/"))
    if all(name in places for name in _NEEDED):
        chains = [[_ROOT / name / place for place in _upward(places[name])] for name in _NEEDED]
        depth = max(map(len, chains))
        return [tuple(chain[min(n, len(chain) - 1)] for chain in chains) for n in range(depth)]
    return [(_ROOT / place,) for place in _upward(places.get("", Path()))]


def _upward(place: Path) -> list[Path]:
    return [place, *place.parents] if place.parts else [place]


def _sweep(parents: tuple[Path, ...]) -> None:
    """Delete what judges left that were killed together with their guards."""
    for folder in (folder for parent in parents for folder in parent.glob("wmtp-*-*")):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            with contextlib.suppress(OSError):  # something still runs in it, or another judge was first
                folder.rmdir()
