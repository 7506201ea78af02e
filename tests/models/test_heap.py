"""Freed memory really goes back to the system, also from between what is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wmtp_ray.models import heap

PROGRAM = """
import ctypes, psutil
from wmtp_ray.models.heap import give_back_freed_memory

c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
megabytes = lambda: psutil.Process().memory_info().rss / 2**20
buffers = []
for _ in range(10_000):
    buffers.append(c.malloc(30_000))
    ctypes.memset(buffers[-1], 1, 30_000)
    c.malloc(32)  # kept
full = megabytes()
for buffer in buffers:
    c.free(ctypes.c_void_p(buffer))
kept = megabytes()
give_back_freed_memory()
print(full - kept, full - megabytes())
"""


@pytest.mark.skipif(heap._trim is None, reason="no glibc: its allocator's habit is what is mended")
def test_freed_buffers_between_kept_ones_are_given_back() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    ).stdout
    without, with_it = map(float, printed.split())
    assert without < 50
    assert with_it > 200
