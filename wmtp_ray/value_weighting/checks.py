"""Refusing NaN, infinity and mismatched shapes by name, so that none ever becomes a weight or a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from wmtp_ray.errors import DataError


def require_finite(values: Tensor, valid: Tensor, name: str, segment_ids: Tensor | None = None) -> None:
    """Raise unless `values` is finite wherever `valid`; what lies off the mask (padding, prompt) is not
    looked at.

    Args:
        values: [B, T] or [B, T, K], any floating dtype.
        valid: same shape, bool.
        name: what the values are, for the message ("value", "advantage", "cross-entropy").
        segment_ids: [B, T]; if given, the message names the packed sample within the row as well.

    Raises:
        DataError: names the first offending row, position and, where they exist, head and packed segment.

    Waits for the device once (one boolean).
    """
    bad = valid & ~torch.isfinite(values)
    if not bool(bad.any()):
        return
    place = bad.nonzero()[0].tolist()
    where = f"row {place[0]}, position {place[1]}"
    if len(place) > 2:
        where += f", head {place[2] + 1}"
    if segment_ids is not None:
        where += f", packed segment {int(segment_ids[place[0], place[1]])}"
    raise DataError(
        f"{name} at {where} is {float(values[tuple(place)])}; {int(bad.sum())} of {int(valid.sum())} are not "
        "finite. Find out why the model that computed it overflowed (dtype, learning rate, damaged "
        "checkpoint), and remove or rescore the sample."
    )


def require_same_shape(**tensors: Tensor) -> None:
    """Raise unless all tensors, given by the names the caller knows them by, have one shape.

    Raises:
        DataError: names every tensor with its shape.
    """
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise DataError(f"shapes must agree, but are: {shapes}")
