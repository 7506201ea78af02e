from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.value_weighting.rows import Sample, pack, samples, unpack
from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.losses import (
    LambdaSchedule,
    lambda_return_losses,
    lambda_return_targets,
    spread_over_segments,
)
from wmtp_ray.value_weighting import compute_gae_advantage


def reference_targets(sample: Sample, reward: float, gamma: float, lam: float) -> np.ndarray:
    returns = np.zeros(sample.mask.size)
    responses = np.flatnonzero(sample.mask)
    if responses.size == 0:
        return returns
    V, last = sample.values.astype(np.float64), responses[-1]
    returns[last] = reward
    for t in range(last - 1, responses[0] - 1, -1):
        returns[t] = gamma * ((1 - lam) * V[t + 1] + lam * returns[t + 1])
    return returns * sample.mask


@given(
    rows=st.lists(st.lists(samples(), min_size=1, max_size=3), min_size=1, max_size=3),
    gamma=st.sampled_from([1.0, 0.97, 0.2]),
    lam=st.sampled_from([0.0, 0.4, 0.95, 1.0]),
    padding=st.integers(0, 2),
)
def test_targets_equal_the_loop_packed_or_not(rows, gamma, lam, padding):
    flat = [sample for row in rows for sample in row]
    rewards = torch.tensor([float(i % 2) for i in range(len(flat))])
    packed = pack(rows, padding, fill=math.nan)
    rewards_BT = spread_over_segments(rewards, packed.segment_ids, fill=math.nan)
    found = lambda_return_targets(packed.values, rewards_BT, packed.mask, gamma, lam, packed.segment_ids)
    alone = pack([[s] for s in flat])
    single = lambda_return_targets(alone.values, rewards, alone.mask, gamma, lam)
    for sample, reward, G, own in zip(
        flat, rewards.tolist(), unpack(found, rows), single.numpy(), strict=True
    ):
        wanted = reference_targets(sample, reward, gamma, lam)
        np.testing.assert_allclose(G, wanted, atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(own[: wanted.size], wanted, atol=1e-6, rtol=1e-6)


def test_targets_minus_values_are_the_advantage_of_the_next_token():
    """With V after token t, G_t − V_t looks ahead from t: it is A_{t+1}, if the last value is the reward already."""
    values, mask, reward = torch.rand(3, 9), torch.ones(3, 9), torch.tensor([1.0, 0.0, 1.0])
    values[:, -1] = reward
    targets = lambda_return_targets(values, reward, mask, lam=0.8)
    advantages = compute_gae_advantage(values, reward, mask, lam=0.8)
    torch.testing.assert_close((targets - values)[:, :-1], advantages[:, 1:], atol=1e-6, rtol=0)


def test_worked_examples_of_the_documentation():
    values = torch.tensor([[0.2, 0.4, 0.6]])
    targets = lambda_return_targets(values, torch.tensor([1.0]), torch.ones(1, 3), lam=0.5)
    torch.testing.assert_close(targets, torch.tensor([[0.6, 0.8, 1.0]]))
    sample = (
        torch.tensor([[1.0, 3.0]]),
        torch.tensor([[1.0, 1.0]]),
        torch.ones(1, 2),
        torch.tensor([[0, 0]]),
        1,
    )
    assert lambda_return_losses(*sample, kind="mse")[0].tolist() == [2.0]
    assert lambda_return_losses(*sample)[0].tolist() == [0.75]
    schedule = LambdaSchedule("linear", 0.0, 1.0, warmup_steps=2, total_steps=6)
    assert [schedule.at(i) for i in range(6)] == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 1])


@given(
    rows=st.lists(st.lists(samples(), min_size=1, max_size=3), min_size=1, max_size=3),
    kind=st.sampled_from(["huber", "mse"]),
    delta=st.floats(0.1, 3),
)
def test_losses_are_means_per_sequence(rows, kind, delta):
    packed = pack(rows, fill=math.nan)
    flat = [sample for row in rows for sample in row]
    targets = torch.rand(packed.values.shape, dtype=torch.float64)
    found, counts = lambda_return_losses(
        packed.values.double(), targets, packed.mask, packed.segment_ids, len(flat), kind, delta
    )
    wanted = []
    for sample, goal in zip(flat, unpack(targets, rows), strict=True):
        error = np.abs(sample.values.astype(np.float64) - goal)[sample.mask]
        each = (
            error**2 if kind == "mse" else np.where(error <= delta, error**2 / 2, delta * (error - delta / 2))
        )
        wanted.append(each.mean() if each.size else 0.0)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9, rtol=1e-9)
    assert counts.tolist() == [int(s.mask.sum()) for s in flat]


@pytest.mark.parametrize("kind", ["huber", "mse"])
def test_gradients_by_finite_differences(kind):
    values = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
    targets = 2 * torch.randn(3, 4, dtype=torch.float64)
    segments = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, -1]])

    def losses(values: torch.Tensor) -> torch.Tensor:
        return lambda_return_losses(values, targets, mask, segments, 4, kind, 0.7)[0]

    assert torch.autograd.gradcheck(losses, (values,))


def test_gradient_ignores_nan_off_the_mask():
    values = torch.tensor([[math.nan, 0.5]], requires_grad=True)
    targets, mask, segments = torch.tensor([[math.nan, 1.0]]), torch.tensor([[0, 1]]), torch.tensor([[0, 0]])
    lambda_return_losses(values, targets, mask, segments, 1)[0].sum().backward()
    assert values.grad is not None and values.grad.tolist() == [[0.0, -0.5]]


def test_schedules_start_end_and_stay_between():
    for kind in ("linear", "cosine"):
        schedule = LambdaSchedule(kind, 0.2, 0.9, warmup_steps=3, total_steps=20)
        path = [schedule.at(i) for i in range(25)]
        assert path[:4] == [0.2] * 4
        assert path[19:] == pytest.approx([0.9] * 6)
        assert all(a <= b for a, b in pairwise(path))
    assert LambdaSchedule(start=0.7).at(11) == 0.7


def test_bad_input_is_named_and_refused():
    values, mask, segments = torch.zeros(1, 3), torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.int64)
    bad = torch.tensor([[0.0, math.nan, 0.0]])
    with pytest.raises(DataError, match="value at row 0, position 1"):
        lambda_return_targets(bad, torch.tensor([1.0]), mask)
    with pytest.raises(DataError, match="reward at row 0, position 2"):
        lambda_return_targets(values, torch.tensor([math.nan]), mask)
    with pytest.raises(DataError, match="value at row 0, position 1"):
        lambda_return_losses(bad, values, mask, segments, 1)
    with pytest.raises(DataError, match="target at row 0, position 1"):
        lambda_return_losses(values, bad, mask, segments, 1)
    for wrong in ({"gamma": 0.0}, {"lam": 2.0}):
        with pytest.raises(ConfigError):
            lambda_return_targets(values, torch.tensor([1.0]), mask, **wrong)
    for wrong in ({"kind": "l1"}, {"delta": 0.0}):
        with pytest.raises(ConfigError):
            lambda_return_losses(values, values, mask, segments, 1, **wrong)
    for wrong in ({"kind": "step"}, {"start": 1.5}, {"warmup_steps": -1}, {"total_steps": 0}):
        with pytest.raises(ConfigError):
            LambdaSchedule(**wrong)
