from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting import build_weights, mean_one_scales, with_eos_weight_one

ADVANTAGES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(-100, 100, width=32),
)


def reference_weights(
    advantages: np.ndarray,
    mask: np.ndarray,
    beta: float = 1.0,
    mean: float | None = None,
    std: float | None = None,
    mean_one: bool = False,
) -> np.ndarray:
    """Token by token, float64."""
    kept = [float(a) for a, m in zip(advantages.flat, mask.flat, strict=True) if m]
    weights = np.zeros(advantages.shape)
    if mean is None or std is None:
        if len(kept) <= 1:
            return mask.astype(np.float64)
        mean = math.fsum(kept) / len(kept)
        std = math.sqrt(math.fsum((a - mean) ** 2 for a in kept) / (len(kept) - 1))
    for place in np.ndindex(advantages.shape):
        if mask[place]:
            exponent = (float(advantages[place]) - mean) / (std + 1e-8) / beta
            weights[place] = min(max(math.exp(min(exponent, 700.0)), 0.1), 3.0)
    return weights * (len(kept) / weights.sum()) if mean_one and kept else weights


@given(advantages=ADVANTAGES, seed=st.integers(0, 99), beta=st.floats(0.05, 20), mean_one=st.booleans())
def test_own_statistics_equal_the_loop(advantages, seed, beta, mean_one):
    mask = np.random.default_rng(seed).random(advantages.shape) < 0.6
    tensors = torch.from_numpy(advantages), torch.from_numpy(mask)
    found = build_weights(*tensors, beta=beta, normalize="mean_one" if mean_one else "none")
    wanted = reference_weights(advantages, mask, beta, mean_one=mean_one)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6, rtol=1e-6)
    assert found.dtype == torch.float32


@given(advantages=ADVANTAGES, seed=st.integers(0, 99), mean=st.floats(-5, 5), std=st.floats(0, 5))
def test_external_statistics_equal_the_loop(advantages, seed, mean, std):
    mask = np.random.default_rng(seed).random(advantages.shape) < 0.6
    found = build_weights(
        torch.from_numpy(advantages), torch.from_numpy(mask), external_mean=mean, external_std=std
    )
    wanted = reference_weights(advantages, mask, mean=mean, std=std)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6, rtol=1e-6)


def test_worked_example():
    advantages = torch.tensor([[0.0, math.log(2), 5.0, 9.0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    plain = build_weights(advantages, mask, external_mean=0.0, external_std=1.0)
    torch.testing.assert_close(plain, torch.tensor([[1.0, 2.0, 3.0, 0.0]]))
    even = build_weights(advantages, mask, external_mean=0.0, external_std=1.0, normalize="mean_one")
    torch.testing.assert_close(even, torch.tensor([[0.5, 1.0, 1.5, 0.0]]))


def test_standard_normal_advantages_average_1_30():
    advantages = torch.randn(64, 2000, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(advantages)
    weights = build_weights(advantages, mask, external_mean=0.0, external_std=1.0)
    assert abs(float(weights.mean()) - 1.30) < 0.01


def test_extremes_give_finite_clipped_weights():
    advantages = torch.tensor([[3e38, -3e38, 0.0]])
    found = build_weights(advantages, torch.ones(1, 3), external_mean=0.0, external_std=0.0)
    torch.testing.assert_close(found, torch.tensor([[3.0, 0.1, 1.0]]))
    equal = build_weights(torch.full((2, 3), 0.7), torch.ones(2, 3))
    torch.testing.assert_close(equal, torch.ones(2, 3))


def test_non_finite_advantages_are_named_and_ignored_off_the_mask():
    advantages, mask = torch.zeros(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]])
    advantages[0, 2] = math.nan
    assert build_weights(advantages, mask)[0, 2] == 0
    advantages[1, 1] = -math.inf
    with pytest.raises(DataError, match="advantage at row 1, position 1 is -inf; 1 of 5"):
        build_weights(advantages, mask)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": 0.0},
        {"beta": math.nan},
        {"min_weight": 4.0},
        {"min_weight": -1.0},
        {"max_weight": math.inf},
        {"external_mean": 0.0},
        {"external_std": 1.0},
        {"external_mean": math.nan, "external_std": 1.0},
        {"external_mean": 0.0, "external_std": -1.0},
        {"normalize": "sum"},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        build_weights(torch.zeros(1, 3), torch.ones(1, 3), **wrong)


def test_shapes_that_differ_are_refused():
    with pytest.raises(DataError, match="shapes must agree"):
        build_weights(torch.zeros(1, 3), torch.ones(1, 4))


def test_mean_one_scales_make_each_head_average_one_over_the_step():
    sums, counts = torch.tensor([260.0, 50.0, 0.0]), torch.tensor([200, 100, 0])
    torch.testing.assert_close(
        mean_one_scales(sums, counts), torch.tensor([200 / 260, 2.0, 1.0], dtype=torch.float64)
    )
    with pytest.raises(DataError, match="head 2"):
        mean_one_scales(torch.tensor([1.0, 0.0]), torch.tensor([1, 1]))


def test_eos_weight_one_touches_only_eos_labels():
    weights, labels = torch.tensor([[0.3, 2.0, 1.7]]), torch.tensor([[-100, 6, 2]])
    found = with_eos_weight_one(weights, labels, eos_token_id=2)
    torch.testing.assert_close(found, torch.tensor([[0.3, 2.0, 1.0]]))
    with pytest.raises(DataError):
        with_eos_weight_one(torch.ones(1, 3, 3), labels, eos_token_id=2)
