"""Products with the unembedding matrix that are exact to float32 whatever the model's precision.

A bfloat16 product rounds each logit to 8 bits: at a logit of 20 the error is 0.06, and so is the loss's. Here
    logits
leave the product in float32. On CUDA the tensor cores accumulate and store float32 (`out_dtype`); elsewhere
the matrix is widened a slice of the vocabulary at a time, which costs little beside the product itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SLICE = 8192  # vocabulary rows of a low-precision matrix held in float32 at a time


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays; everything else is accumulated in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def project(hidden_CD: Tensor, weight_VD: Tensor, out_CV: Tensor) -> Tensor:
    """hidden · Wᵀ, written to `out_CV` in its precision (that of `accumulation_dtype`)."""
    if weight_VD.dtype == hidden_CD.dtype == out_CV.dtype:
        return torch.mm(hidden_CD, weight_VD.t(), out=out_CV)
    if weight_VD.is_cuda and weight_VD.dtype == hidden_CD.dtype:
        return torch.mm(hidden_CD, weight_VD.t(), out_dtype=out_CV.dtype, out=out_CV)
    wide_CD = hidden_CD.to(out_CV.dtype)
    for start in range(0, weight_VD.shape[0], _SLICE):
        part = slice(start, start + _SLICE)
        out_CV[:, part] = wide_CD @ weight_VD[part].to(out_CV.dtype).t()
    return out_CV


def project_back(gradients_CV: Tensor, weight_VD: Tensor) -> Tensor:
    """Logit gradients · W, [C, D] in the gradients' precision. On CUDA the gradients are rounded to the
    weights' precision on the way into the tensor cores."""
    if weight_VD.dtype == gradients_CV.dtype:
        return gradients_CV @ weight_VD
    if weight_VD.is_cuda:
        return torch.mm(gradients_CV.to(weight_VD.dtype), weight_VD, out_dtype=gradients_CV.dtype)
    out_CD = gradients_CV.new_zeros(gradients_CV.shape[0], weight_VD.shape[1])
    for start in range(0, weight_VD.shape[0], _SLICE):
        part = slice(start, start + _SLICE)
        out_CD.addmm_(gradients_CV[:, part], weight_VD[part].to(gradients_CV.dtype))
    return out_CD
