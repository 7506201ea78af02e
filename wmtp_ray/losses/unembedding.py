"""Products with the unembedding matrix: exact to float32 whatever the model's precision, and fast on a CPU.

Precision: a bfloat16 product rounds each logit to 8 bits; at a logit of 20 the error is 0.06, and so is the loss's.
Here logits leave the product in float32. On CUDA the tensor cores accumulate and store float32 (`out_dtype`); on a CPU
the matrix is widened a slice of the vocabulary at a time, which costs little beside the product.

Speed: torch's CPU build multiplies float32 matrices with MKL, which on AMD processors does without AVX-512: 90 GFLOP/s
on a core where oneDNN, part of the same build, reaches 200. torch offers oneDNN's float32 product under an operator of
its compiler's (`torch.ops.mkldnn._linear_pointwise`, a·bᵀ). It is used where the build has it; results agree to float32
rounding, and it keeps no copy of the matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SLICE = 4096  # vocabulary rows at a time, where a temporary of the matrix's own size has to be avoided


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays; everything else is accumulated in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def project(hidden_CD: Tensor, weight_VD: Tensor) -> Tensor:
    """hidden · Wᵀ: logits [C, V] in `accumulation_dtype`. No gradient."""
    dtype = accumulation_dtype(hidden_CD.dtype)
    if weight_VD.is_cuda and weight_VD.dtype == hidden_CD.dtype != dtype:
        return torch.mm(hidden_CD, weight_VD.t(), out_dtype=dtype)
    hidden_CD = hidden_CD.to(dtype)
    if weight_VD.dtype == dtype:
        return _times_transposed(hidden_CD, weight_VD)
    logits_CV = hidden_CD.new_empty(hidden_CD.shape[0], weight_VD.shape[0])
    for part in _slices(weight_VD):
        logits_CV[:, part] = _times_transposed(hidden_CD, weight_VD[part].to(dtype))
    return logits_CV


def project_back(gradients_CV: Tensor, weight_VD: Tensor) -> Tensor:
    """Logit gradients · W: hidden gradients [C, D] in the gradients' precision. No gradient.

    On CUDA the logit gradients are rounded to the matrix's precision on their way into the tensor cores.
    """
    dtype = gradients_CV.dtype
    if weight_VD.is_cuda and weight_VD.dtype != dtype:
        return torch.mm(gradients_CV.to(weight_VD.dtype), weight_VD, out_dtype=dtype)
    if weight_VD.dtype == dtype:
        return _times_transposed(gradients_CV, weight_VD.t())
    sums_CD = gradients_CV.new_zeros(gradients_CV.shape[0], weight_VD.shape[1])
    for part in _slices(weight_VD):
        sums_CD += _times_transposed(gradients_CV[:, part], weight_VD[part].to(dtype).t())
    return sums_CD


def add_outer_product(sums_VD: Tensor, gradients_CV: Tensor, hidden_CD: Tensor) -> None:
    """sums += logit gradientsᵀ · hidden, in the precision of the sums and the gradients: the unembedding's
    gradient.
    """
    if sums_VD.is_cuda:
        sums_VD.addmm_(gradients_CV.t(), hidden_CD.to(sums_VD.dtype))
        return
    hidden_DC = hidden_CD.to(sums_VD.dtype).t()
    for part in _slices(sums_VD):
        sums_VD[part] += _times_transposed(gradients_CV[:, part].t(), hidden_DC)


def _slices(weight_VD: Tensor) -> list[slice]:
    return [slice(start, start + _SLICE) for start in range(0, weight_VD.shape[0], _SLICE)]


def _times_transposed(left_CK: Tensor, right_NK: Tensor) -> Tensor:
    """left · rightᵀ in the precision both have."""
    if left_CK.dtype == torch.float32 and left_CK.device.type == "cpu" and _has_onednn_product():
        return torch.ops.mkldnn._linear_pointwise(left_CK, right_NK, None, "none", [], "")
    return left_CK @ right_NK.t()


def _has_onednn_product() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
