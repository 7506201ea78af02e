"""Arrays of 4-byte numbers as text: base64 of their little-endian bytes. 2,048 ids are 11 kB, and exact."""

from __future__ import annotations

import base64
import binascii
from typing import Literal

import numpy as np


def encode_array(array: np.ndarray, dtype: Literal["<i4", "<f4"]) -> str:
    """`array` as `dtype`, in base64."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(dtype)).tobytes()).decode("ascii")


def decode_array(text: str, dtype: Literal["<i4", "<f4"]) -> np.ndarray:
    """Inverse of `encode_array`, a writable copy; `ValueError` where `text` is no base64 of whole numbers."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(raw) % 4:
        raise ValueError(f"{len(raw)} bytes are no whole number of 4-byte numbers")
    return np.frombuffer(raw, dtype=np.dtype(dtype)).copy()
