"""What one run of an untrusted program may use."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one sandbox. CPU time is the one that should bind: it does not depend on the machine's load."""

    cpu_seconds: float = 5.0
    """Rounded up to whole seconds; per process."""
    wall_seconds: float = 20.0
    memory_mb: int = 1024
    """Address space per process."""
    total_memory_mb: int = 2048
    """Memory of all its processes and its files in /tmp."""
    processes: int = 16
    """Processes and threads."""
    open_files: int = 64
    file_mb: int = 16
    """Largest file, and the size of the private /tmp."""
    output_mb: int = 16
    """Standard output (results included); more ends the run."""

    def rlimits(self, total_is_counted: bool, own_processes: int) -> dict[str, tuple[int, int]]:
        """Limits of each process; the kernel counts `own_processes` of the sandbox's among the program's.

        Where no cgroup counts the memory of all together, there are so few processes that they cannot exceed
        the total: 2048 MB in all and 1024 MB each allow 2, a program with one thread beside its main one.
        """
        cpu = math.ceil(self.cpu_seconds)
        space, file = self.memory_mb << 20, self.file_mb << 20
        fitting = max(1, self.total_memory_mb // self.memory_mb)
        processes = own_processes + (self.processes if total_is_counted else min(self.processes, fitting))
        return {
            "RLIMIT_CPU": (cpu, cpu + 1),
            "RLIMIT_AS": (space, space),
            "RLIMIT_FSIZE": (file, file),
            "RLIMIT_NOFILE": (self.open_files, self.open_files),
            "RLIMIT_NPROC": (processes, processes),
            "RLIMIT_CORE": (0, 0),
        }
