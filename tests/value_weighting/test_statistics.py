from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.errors import DataError
from wmtp_ray.value_weighting import WeightSums, build_weights, weight_statistics


@given(
    weights=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5, 3.0]), min_size=1, max_size=20),
    cut=st.integers(0, 20),
)
def test_statistics_equal_numpy_and_add_up(weights, cut):
    w = np.array(weights)
    tensor = torch.tensor([[math.nan, *weights]], dtype=torch.float32)
    mask = torch.tensor([[0] + [1] * len(weights)])
    found = weight_statistics(tensor, mask)
    p = w / w.sum() if w.sum() else w
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    assert found.count == w.size
    np.testing.assert_allclose(
        [found.mean, found.std, found.min, found.max], [w.mean(), w.std(), w.min(), w.max()], atol=1e-6
    )
    np.testing.assert_allclose(found.share_at_min, (w <= 0.1).mean())
    np.testing.assert_allclose(found.share_at_max, (w >= 3.0).mean())
    if w.sum() > 0:
        wanted = entropy / math.log(w.size) if w.size > 1 else 1.0
        np.testing.assert_allclose(found.entropy, wanted, atol=1e-6)
        np.testing.assert_allclose(
            found.effective_sample_size, w.sum() ** 2 / (w.size * (w**2).sum()), atol=1e-6
        )
    parts = [WeightSums.of(tensor[:, :cut], mask[:, :cut]), WeightSums.of(tensor[:, cut:], mask[:, cut:])]
    together = (parts[0] + parts[1]).statistics()
    np.testing.assert_allclose(astuple(together), astuple(found), atol=1e-9)


def test_normal_advantages_keep_about_two_thirds_of_the_sample():
    advantages = torch.randn(32, 2000, generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(advantages)
    found = weight_statistics(build_weights(advantages, mask), mask)
    assert abs(found.effective_sample_size - 0.65) < 0.01
    assert abs(found.mean - 1.30) < 0.01


def test_worked_example_and_no_weights_at_all():
    found = weight_statistics(torch.tensor([[0.1, 1.0, 3.0]]), torch.ones(1, 3))
    assert math.isclose(found.mean, 4.1 / 3, rel_tol=1e-6)
    assert found.share_at_min == found.share_at_max == pytest.approx(1 / 3)
    assert found.effective_sample_size == pytest.approx(4.1**2 / (3 * 10.01))
    assert not any(astuple(weight_statistics(torch.zeros(2, 3), torch.zeros(2, 3))))
    assert weight_statistics(torch.ones(1, 1), torch.ones(1, 1)).entropy == 1.0


def test_non_finite_weights_are_named():
    with pytest.raises(DataError, match="weight at row 0, position 1, head 2"):
        weight_statistics(torch.tensor([[[1.0, 1.0], [1.0, math.nan]]]), torch.ones(1, 2, 2))
