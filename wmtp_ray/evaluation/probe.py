"""Does the sandbox hold here? Tries to exceed every limit and to reach what must be hidden, with harmless programs.

Each attempt says what it got; what succeeds is named. `strict` means that nothing did.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from wmtp_ray.errors import SandboxError
from wmtp_ray.evaluation import sandbox
from wmtp_ray.evaluation.cgroup import make_cgroup
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.sandbox import Isolation, Outcome
from wmtp_ray.evaluation.seccomp import filter_program

Level = Literal["strict", "partial"]
_SMALL = Limits(
    cpu_seconds=1,
    wall_seconds=60,
    memory_mb=192,
    total_memory_mb=256,
    processes=8,
    open_files=32,
    file_mb=2,
    output_mb=1,
)

_ATTEMPTS = """
import os

def succeeds(attempt):
    try:
        attempt()
    except (OSError, MemoryError, ValueError):
        return False
    return True

def reach(port):
    import socket
    return succeeds(lambda: socket.create_connection(("127.0.0.1", port), 2))

def read(path):
    return succeeds(lambda: open(path))

def signal(pid):
    return succeeds(lambda: os.kill(pid, 0))

def inherit(secret):
    return secret in os.environ

def become_root():
    return succeeds(lambda: os.setuid(0))

def unshare():
    import ctypes
    return ctypes.CDLL(None).unshare(0x10000000) == 0

def allocate(size):
    return succeeds(lambda: bytearray(size))

def open_files(count):
    return succeeds(lambda: [open("/dev/null") for _ in range(count)])

def write(size):
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return succeeds(lambda: open("/tmp/large", "wb").write(bytes(size)))

def fill(count, size):
    return succeeds(lambda: [open("/tmp/%d" % n, "wb").write(bytes(size)) for n in range(count)])

def write_beside_tmp():
    for place, folders, _ in os.walk("/"):
        if place != "/tmp" and os.access(place, os.W_OK):
            return True
        if place.startswith(("/lib", "/usr/lib")):  # a read-only mount with all below it, and large
            folders.clear()
    return False

def fork(count):
    import time
    for n in range(count):
        try:
            child = os.fork()
        except OSError:
            return False
        if child == 0:
            time.sleep(2)
            os._exit(0)
    return True
"""

_SHARE_MEMORY = """
import os, time
read, write = os.pipe()
for _ in range({count}):
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        held = bytearray(os.urandom(1 << 16) * ({size} >> 16))
        os.write(write, b"x")
        time.sleep(60)
os.close(write)
reached = b""
while len(reached) < {count} and (got := os.read(read, 1)):
    reached += got
print(len(reached), flush=True)
os._exit(0)
"""

_DETACH_MEMORY = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
held = 0
while held < {size}:
    segment = libc.shmget(0, 1 << 24, 0o1600)
    place = libc.shmat(segment, None, 0)
    if segment < 0 or place == ctypes.c_void_p(-1).value:
        break
    ctypes.memset(place, 1, 1 << 24)
    libc.shmdt(ctypes.c_void_p(place))
    held += 1 << 24
print(held, flush=True)
os._exit(0)
"""

_DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
"""


@dataclass(frozen=True)
class Protection:
    """What the sandbox of this machine is made of, and which limits it could not keep."""

    kind: Isolation
    counted: bool
    """A control group counts memory and processes of all together."""
    filtered: bool
    """Dangerous system calls are refused."""
    exceeded: tuple[str, ...]

    @property
    def level(self) -> Level:
        """`strict` if every attempt failed."""
        return "partial" if self.exceeded else "strict"

    def require(self, level: Level) -> None:
        """Raise `SandboxError` where `strict` is required and this is less."""
        if level == "strict" and self.exceeded:
            raise SandboxError(
                f"the sandbox of this machine is not strict: programs can exceed or reach {', '.join(self.exceeded)}; "
                "run on another machine, or accept it with judge.isolation=partial"
            )

    def __str__(self) -> str:
        parts = [f"bubblewrap as {self.kind}", "control group" if self.counted else "limits per process"]
        parts += ["system calls filtered"] if self.filtered else []
        missing = f"; not held: {', '.join(self.exceeded)}" if self.exceeded else ""
        return f"{self.level} ({', '.join(parts)}{missing})"


@functools.cache
def protection() -> Protection:
    """Try everything, once per process; about two seconds. Raises `SandboxError` if nothing can be isolated."""
    kind = sandbox.isolation()
    group = make_cgroup(_SMALL)
    if group is not None:
        group.remove()
    attempts = (_direct, _cpu_time, _wall_time, _shared_memory, _detached_memory, _output, _survivors)
    with ThreadPoolExecutor(len(attempts)) as pool:
        exceeded = [name for names in pool.map(lambda attempt: list(attempt()), attempts) for name in names]
    return Protection(kind, group is not None, filter_program() is not None, tuple(exceeded))


def _direct() -> Iterator[str]:
    """What one program can try by calls that say whether they succeeded."""
    with _secrets() as (port, path):
        tries = {
            "the network": f"reach({port})",
            "files of the machine": f"read({path!r})",
            "processes of the machine": f"signal({os.getpid()})",
            "the judge's environment": "inherit('PATH')",
            "another user": "become_root()",
            "new namespaces": "unshare()",
            "memory of a process": f"allocate({_SMALL.memory_mb << 20})",
            "open files": f"open_files({_SMALL.open_files + 1})",
            "the size of a file": f"write({_SMALL.file_mb << 21})",
            "the size of /tmp": f"fill(5, {_SMALL.file_mb << 19})",
            "places beside /tmp": "write_beside_tmp()",
            "the number of processes": f"fork({_SMALL.processes})",
        }
        outcome = _run({"mode": "call", "program": _ATTEMPTS, "calls": list(tries.values())})
    answers = outcome.stdout.decode().split("\n")[:-1]
    failed = 'V ["b","0"]'
    for number, name in enumerate(tries):
        if number >= len(answers) or answers[number] != failed:
            yield name


@contextmanager
def _secrets() -> Iterator[tuple[int, str]]:
    """A port where somebody listens and a file that everybody may read."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0o644)
        yield server.getsockname()[1], file.name


def _cpu_time() -> Iterator[str]:
    outcome = _run({"mode": "stdio", "program": "while True: pass"})
    if not outcome.started or outcome.timed_out or outcome.exit_code == 0:
        yield "CPU time"


def _wall_time() -> Iterator[str]:
    limits = Limits(wall_seconds=0.5)
    outcome = _run({"mode": "stdio", "program": "import time; time.sleep(600)"}, limits)
    if not outcome.timed_out or outcome.seconds > 30:
        yield "wall time"


def _shared_memory() -> Iterator[str]:
    """Each process stays below its own limit, all together do not."""
    size = _SMALL.memory_mb * 3 // 4 << 20
    count = (_SMALL.total_memory_mb << 20) // size + 1
    outcome = _run({"mode": "stdio", "program": _SHARE_MEMORY.format(count=count, size=size)})
    if not outcome.started or outcome.stdout.strip() == str(count).encode():
        yield "memory of all processes"


def _detached_memory() -> Iterator[str]:
    """Memory that is no process's own, so that no limit of a process counts it."""
    size = _SMALL.total_memory_mb << 20
    outcome = _run({"mode": "stdio", "program": _DETACH_MEMORY.format(size=size)})
    if not outcome.started or outcome.stdout.strip() == str(size).encode():
        yield "memory of no process"


def _output() -> Iterator[str]:
    size = (_SMALL.output_mb << 20) + (1 << 20)
    outcome = _run({"mode": "stdio", "program": f"print('x' * {size})"})
    if not outcome.output_exceeded:
        yield "output"


def _survivors() -> Iterator[str]:
    """A process that left its group and session holds an end of a pipe for as long as it lives."""
    read, write = os.pipe()
    running = sandbox.start({"mode": "stdio", "setup": "", "program": _DAEMON}, _SMALL, pass_fds=(write,))
    os.close(write)
    sandbox.finish([running], _SMALL)
    ended, _, _ = select.select([read], [], [], 5.0)
    os.close(read)
    if not ended:
        yield "the end of the program"


def _run(task: dict[str, object], limits: Limits = _SMALL) -> Outcome:
    [outcome] = sandbox.finish([sandbox.start({"setup": "", **task}, limits)], limits)
    return outcome
