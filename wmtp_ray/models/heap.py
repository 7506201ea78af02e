"""Memory of PyTorch's CPU kernels, which would grow with every new shape of a batch: what they keep for a shape is
bounded, what they free is given back to the system.

In bfloat16 a kernel of about 0.7 MB is made for each shape of a product (on a processor with AMX), and lies in the heap
between freed buffers of megabytes. The allocator of glibc keeps those and can use few of them again.
"""

from __future__ import annotations

import ctypes
import os

KERNELS_KEPT = 128
"""Of each cache, instead of 1,024. With ever new shapes a training step of SmolLM2-135M's critic takes as long."""
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's, and that of PyTorch's bridge to it, which holds on to the same kernels: one alone bounds half of that."""

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other allocators do so unasked


def bound_kernel_caches() -> None:
    """Call it before the process multiplies in bfloat16 for the first time; what the environment says stays."""
    for cache in CACHES:
        os.environ.setdefault(cache, str(KERNELS_KEPT))


def give_back_freed_memory() -> None:
    """Call it after a forward on a CPU, when its tensors are gone; takes milliseconds."""
    if _trim is not None:
        _trim(0)
