"""Memory of freed tensors, given back to the system.

Batches of ever new shapes make PyTorch's CPU kernels leave something small behind in the heap each time, between freed
buffers of megabytes. The allocator of glibc keeps those and can use few of them again, so a process that scores in
bfloat16 would grow for as long as it meets new shapes.
"""

from __future__ import annotations

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other allocators do so unasked


def give_back_freed_memory() -> None:
    """Call it after a forward on a CPU, when its tensors are gone; takes milliseconds."""
    if _trim is not None:
        _trim(0)
