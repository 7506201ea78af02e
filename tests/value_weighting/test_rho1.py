from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting import rho1_weights

MODES = ("signed", "absolute", "difficult")


def reference_selection(
    policy: np.ndarray, reference: np.ndarray, valid: np.ndarray, percent: str, mode: str
) -> np.ndarray:
    """Head by head with Python's stable sort."""
    kept = np.zeros(valid.shape, np.float32)
    for k in range(valid.shape[2]):
        scored = []
        for b, t in np.ndindex(valid.shape[:2]):
            if valid[b, t, k]:
                excess = float(policy[b, t, k]) - float(reference[b, t, k])
                score = {"signed": excess, "absolute": abs(excess), "difficult": float(reference[b, t, k])}[
                    mode
                ]
                scored.append((-score, b, t))
        number = math.ceil(Fraction(percent) * len(scored))
        for _, b, t in sorted(scored)[:number]:
            kept[b, t, k] = 1.0
    return kept


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 3)),
    seed=st.integers(0, 2**32 - 1),
    percent=st.sampled_from(["0.6", "0.1", "0.7", "0.33", "1", "0.001"]),
    mode=st.sampled_from(MODES),
)
def test_exactly_the_top_share_of_each_head_ties_by_position(shape, seed, percent, mode):
    rng = np.random.default_rng(seed)
    # Few distinct numbers: ties everywhere.
    policy, reference = (
        rng.integers(0, 3, shape).astype(np.float32),
        rng.integers(0, 3, shape).astype(np.float32),
    )
    valid = rng.random(shape) < 0.7
    found = rho1_weights(
        torch.from_numpy(np.where(valid, policy, np.nan)),
        torch.from_numpy(np.where(valid, reference, np.nan)),
        torch.from_numpy(valid),
        k_percent=float(percent),
        mode=mode,
    )
    np.testing.assert_array_equal(found.numpy(), reference_selection(policy, reference, valid, percent, mode))
    counts = found.sum((0, 1)).tolist()
    assert counts == [math.ceil(Fraction(percent) * int(n)) for n in valid.sum((0, 1))]


def test_the_share_is_the_decimal_it_is_written_as():
    assert math.ceil(0.07 * 100) == 8  # 7.000000000000001 in binary
    for percent, n, kept in [(0.1, 30, 3), (0.07, 100, 7), (0.6, 5, 3), (0.6, 6, 4), (0.57, 100, 57)]:
        ce = torch.rand(1, n, 1)
        assert int(rho1_weights(ce, torch.zeros_like(ce), torch.ones(1, n, 1), percent).sum()) == kept


def test_worked_example():
    excess = torch.tensor([0.1, 0.9, 0.9, 0.2, 0.9]).view(1, 5, 1)
    found = rho1_weights(excess, torch.zeros_like(excess), torch.ones_like(excess), k_percent=0.5)
    assert found.flatten().tolist() == [0, 1, 1, 0, 1]


def test_non_finite_losses_are_named_and_unused_ones_ignored():
    ce, valid = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    bad = ce.clone()
    bad[0, 2, 1] = math.nan
    with pytest.raises(DataError, match="policy cross-entropy at row 0, position 2, head 2"):
        rho1_weights(bad, ce, valid)
    with pytest.raises(DataError, match="reference cross-entropy at row 0, position 2, head 2"):
        rho1_weights(ce, bad, valid)
    rho1_weights(bad, ce, valid, mode="difficult")


def test_wrong_arguments_are_refused():
    ce = torch.zeros(1, 3, 2)
    for wrong in ({"k_percent": 0.0}, {"k_percent": 1.1}, {"mode": "largest"}):
        with pytest.raises(ConfigError):
            rho1_weights(ce, ce, ce, **wrong)
    with pytest.raises(DataError):
        rho1_weights(ce, ce, ce[..., :1])
    with pytest.raises(DataError):
        rho1_weights(ce[0], ce[0], ce[0])
