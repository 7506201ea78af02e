"""Freed memory really goes back to the system, also from between what is kept; and less is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wmtp_ray.models import heap

FREED_BETWEEN_KEPT = """
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
NEW_SHAPES = """
import os, psutil, sys, torch
from wmtp_ray.models.heap import CACHES, bound_kernel_caches, give_back_freed_memory

for cache in CACHES:
    os.environ.pop(cache, None)
if sys.argv[1] == "bounded":
    bound_kernel_caches()
layer, taken = torch.nn.Linear(256, 256, dtype=torch.bfloat16), {}
with torch.no_grad():
    for length in range(1, 601):
        layer(torch.zeros(length, 256, dtype=torch.bfloat16))
        give_back_freed_memory()
        taken[length] = psutil.Process().memory_info().rss / 2**20
print(taken[600] - taken[150])
"""


def printed(program: str, *arguments: str) -> list[float]:
    """The numbers that a process of its own prints."""
    command = [sys.executable, "-c", program, *arguments]
    return [
        float(number)
        for number in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ]


@pytest.mark.skipif(heap._trim is None, reason="no glibc: its allocator's habit is what is mended")
def test_freed_buffers_between_kept_ones_are_given_back() -> None:
    without, with_it = printed(FREED_BETWEEN_KEPT)
    assert without < 50
    assert with_it > 200


def test_new_shapes_do_not_grow_a_process_forever() -> None:
    [unbounded], [bounded] = printed(NEW_SHAPES, "unbounded"), printed(NEW_SHAPES, "bounded")
    if unbounded < 50:
        pytest.skip("this processor's kernels for bfloat16 are not made for each shape")
    assert bounded < unbounded / 4
