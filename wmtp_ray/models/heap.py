"""Memory of PyTorch's CPU kernels, which would grow with every new shape of a batch: what they keep for a shape is
bounded, what they free is given back to the system.

Kernels made for a shape are a megabyte between them, on processors with AMX more, and lie in the heap between freed
buffers of megabytes. The allocator of glibc keeps those and can use few of them again.
"""

from __future__ import annotations

import ctypes
import os

KERNELS_KEPT = 128
"""A forward in bfloat16 uses 7 at most, a training step with adapters about 30; PyTorch's own bounds are 1,024."""
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's, and that of PyTorch's bridge to it, which holds on to the same kernels: only both together help."""

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other allocators do so unasked


def bound_kernel_caches() -> None:
    """Call it before the process multiplies in bfloat16 for the first time; what the environment says stays."""
    for cache in CACHES:
        os.environ.setdefault(cache, str(KERNELS_KEPT))


def give_back_freed_memory() -> None:
    """Call it after a forward on a CPU, when its tensors are gone; takes milliseconds."""
    if _trim is not None:
        _trim(0)
