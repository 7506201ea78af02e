from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.signal import lfilter

from tests.value_weighting.rows import Sample, pack, samples, unpack
from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting import advantage as advantage_module
from wmtp_ray.value_weighting import compute_gae_advantage, compute_td_errors

FIRST_TOKEN = ("prompt_value", "initial_value", "zero")
LAMBDAS = st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0.0, 1.0))
GAMMAS = st.one_of(st.sampled_from([1.0, 0.99]), st.floats(0.01, 1.0))


def reference_deltas(
    sample: Sample, reward: float | None, gamma: float, initial_value: float, first_token: str
) -> np.ndarray:
    """Token by token from the definition, float64; over the whole span, holes included."""
    V, deltas = sample.values.astype(np.float64), np.zeros(sample.mask.size)
    responses = np.flatnonzero(sample.mask)
    if responses.size == 0:
        return deltas
    first, last = responses[0], responses[-1]
    for t in range(first, last + 1):
        before = V[t - 1] if t > 0 else initial_value
        if t == first and first_token == "initial_value":
            before = initial_value
        deltas[t] = (reward if t == last and reward is not None else gamma * V[t]) - before
        if t == first and first_token == "zero":
            deltas[t] = 0.0
    return deltas


def reference_gae(
    sample: Sample,
    reward: float | None = None,
    gamma: float = 1.0,
    lam: float = 0.95,
    initial_value: float = 0.5,
    first_token: str = "prompt_value",
) -> np.ndarray:
    """A_t = δ_t + γλA_{t+1} is an autoregressive filter run from the right."""
    deltas = reference_deltas(sample, reward, gamma, initial_value, first_token)
    filtered = np.asarray(lfilter([1.0], [1.0, -gamma * lam], deltas[::-1]))
    return filtered[::-1] * sample.mask


@given(
    rows=st.lists(st.lists(samples(), min_size=1, max_size=3), min_size=1, max_size=3),
    lam=LAMBDAS,
    gamma=GAMMAS,
)
def test_a_level_stands_above_the_mean_of_its_own_response(
    rows: list[list[Sample]], lam: float, gamma: float
):
    """Each sample's own filter over V − V̄, however it is packed; what is no response token is never read."""
    packed = pack(rows, padding=2)
    values = torch.where(packed.mask, packed.values, torch.nan)
    found = compute_gae_advantage(
        values, None, packed.mask, gamma, lam, segment_ids=packed.segment_ids, credit="level"
    )
    for sample, own in zip([s for row in rows for s in row], unpack(found, rows), strict=True):
        V, mask = sample.values.astype(np.float64), sample.mask
        deltas = np.zeros(mask.size)
        deltas[mask] = V[mask] - V[mask].mean() if mask.any() else 0.0
        expected = np.asarray(lfilter([1.0], [1.0, -gamma * lam], deltas[::-1]))[::-1] * mask
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-5)


def test_worked_examples_of_the_documentation():
    values, mask = torch.tensor([[0.5, 0.7, 0.9, 0.2]]), torch.tensor([[0, 1, 1, 1]])
    advantages = compute_gae_advantage(values, None, mask)
    torch.testing.assert_close(advantages, torch.tensor([[0.0, -0.24175, -0.465, -0.7]]), atol=1e-6, rtol=0)
    assert advantages.dtype == torch.float32
    torch.testing.assert_close(compute_td_errors(values, None, mask), torch.tensor([[0.0, 0.2, 0.2, -0.7]]))
    level = compute_gae_advantage(values, None, mask, lam=0.0, credit="level")
    torch.testing.assert_close(level, torch.tensor([[0.0, 0.1, 0.3, -0.4]]))
    with_reward = compute_td_errors(values, torch.tensor([1.0]), mask)
    torch.testing.assert_close(with_reward, torch.tensor([[0.0, 0.2, 0.2, 0.1]]))


@given(
    rows=st.lists(st.lists(samples(), min_size=1, max_size=3), min_size=1, max_size=3),
    gamma=GAMMAS,
    lam=LAMBDAS,
    first_token=st.sampled_from(FIRST_TOKEN),
    rewarded=st.booleans(),
    padding=st.integers(0, 3),
)
def test_packed_rows_equal_lfilter_on_each_sample(rows, gamma, lam, first_token, rewarded, padding):
    packed = pack(rows, padding, fill=float("nan"))
    flat = [sample for row in rows for sample in row]
    rewards = [float(i % 2) for i in range(len(flat))] if rewarded else [None] * len(flat)
    rewards_BT = None
    if rewarded:
        numbers = iter(rewards)
        rewards_BT = torch.zeros_like(packed.values)
        for b, row in enumerate(rows):
            for number, _ in enumerate(row):
                rewards_BT[b][packed.segment_ids[b] == number] = next(numbers)
    arguments = {"gamma": gamma, "initial_value": 0.3, "first_token": first_token}
    found = compute_gae_advantage(
        packed.values, rewards_BT, packed.mask, lam=lam, segment_ids=packed.segment_ids, **arguments
    )
    deltas = compute_td_errors(
        packed.values, rewards_BT, packed.mask, segment_ids=packed.segment_ids, **arguments
    )
    for sample, reward, A, delta in zip(
        flat, rewards, unpack(found, rows), unpack(deltas, rows), strict=True
    ):
        np.testing.assert_allclose(
            A, reference_gae(sample, reward, lam=lam, **arguments), atol=1e-6, rtol=1e-6
        )
        wanted = reference_deltas(sample, reward, gamma, 0.3, first_token) * sample.mask
        np.testing.assert_allclose(delta, wanted, atol=1e-6, rtol=1e-6)
    assert not found[~packed.mask].any()


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 64, 1000, 2048, 5000])
def test_long_rows_cross_block_borders_exactly(T, lam):
    rng = np.random.default_rng(T)
    row = [Sample(rng.normal(size=T).astype(np.float32), np.ones(T, bool)) for _ in range(2)]
    for segments in ([row[:1]], [row], [[row[0]], [row[1]]]):
        packed = pack(segments)
        found = compute_gae_advantage(
            packed.values, None, packed.mask, lam=lam, segment_ids=packed.segment_ids
        )
        for A, sample in zip(unpack(found, segments), [s for r in segments for s in r], strict=True):
            np.testing.assert_allclose(A, reference_gae(sample, lam=lam), atol=1e-6, rtol=1e-6)


@given(rows=st.lists(samples(), min_size=1, max_size=4), padding=st.integers(0, 40), lam=LAMBDAS)
def test_padding_row_order_and_value_shape_change_nothing(rows, padding, lam):
    tight, loose = pack([[s] for s in rows]), pack([[s] for s in rows[::-1]], padding)
    first = compute_gae_advantage(tight.values, None, tight.mask, lam=lam)
    second = compute_gae_advantage(loose.values.unsqueeze(-1), None, loose.mask.float(), lam=lam)
    torch.testing.assert_close(second.flip(0)[:, : first.shape[1]], first, atol=1e-6, rtol=0)
    assert not second[:, tight.values.shape[1] :].any()


@given(sample=samples(min_prompt=1), extra=st.integers(1, 50), lam=LAMBDAS)
def test_prompt_length_changes_nothing(sample, extra, lam):
    longer = Sample(
        np.concatenate([np.full(extra, np.nan, np.float32), sample.values]),
        np.concatenate([np.zeros(extra, bool), sample.mask]),
    )
    short, long = pack([[sample]]), pack([[longer]])
    first = compute_gae_advantage(short.values, None, short.mask, lam=lam)
    second = compute_gae_advantage(long.values, None, long.mask, lam=lam)
    torch.testing.assert_close(second[:, extra:], first, atol=1e-6, rtol=0)


@given(sample=samples(min_prompt=1), shift=st.floats(-4, 4), lam=LAMBDAS, zero=st.booleans())
def test_a_constant_added_to_all_values_changes_nothing_at_gamma_one(sample, shift, lam, zero):
    row = pack([[sample]])
    values = row.values.double()
    first_token = "zero" if zero else "prompt_value"
    first = compute_gae_advantage(values, None, row.mask, lam=lam, first_token=first_token)
    second = compute_gae_advantage(values + shift, None, row.mask, lam=lam, first_token=first_token)
    torch.testing.assert_close(second, first, atol=1e-5, rtol=0)


@given(row=st.lists(samples(), min_size=1, max_size=3), gamma=GAMMAS)
def test_lambda_is_continuous_up_to_one_and_zero_gives_td_errors(row, gamma):
    packed = pack([row])

    def at(lam: float) -> torch.Tensor:
        return compute_gae_advantage(
            packed.values, None, packed.mask, gamma=gamma, lam=lam, segment_ids=packed.segment_ids
        )

    torch.testing.assert_close(at(1.0 - 1e-9), at(1.0), atol=1e-5, rtol=0)
    deltas = compute_td_errors(packed.values, None, packed.mask, gamma=gamma, segment_ids=packed.segment_ids)
    torch.testing.assert_close(at(0.0), deltas, atol=1e-6, rtol=0)


def test_a_neighbour_with_huge_values_does_not_leak_across_the_boundary():
    small, huge = (
        Sample(np.array([0, 1, 2], np.float32), np.ones(3, bool)),
        Sample(np.array([0, 1e6, -1e6], np.float32), np.ones(3, bool)),
    )
    packed = pack([[small, huge]])
    found = compute_gae_advantage(packed.values, None, packed.mask, lam=1.0, segment_ids=packed.segment_ids)
    np.testing.assert_allclose(found[0, :3].numpy(), reference_gae(small, lam=1.0), atol=1e-6)


def test_rows_without_response_single_tokens_and_arbitrary_segment_numbers():
    values = torch.tensor([[0.2, 0.9, 0.4, 0.6]])
    assert not compute_gae_advantage(values, None, torch.zeros(1, 4)).any()
    single = compute_gae_advantage(values[:, :1], None, torch.ones(1, 1))
    torch.testing.assert_close(single, torch.tensor([[0.2 - 0.5]]))
    mask, segments = torch.ones(1, 4), torch.tensor([[0, 0, 1, 1]])
    renumbered = compute_gae_advantage(values, None, mask, segment_ids=segments * 900 + 7)
    torch.testing.assert_close(renumbered, compute_gae_advantage(values, None, mask, segment_ids=segments))


@example(bad=float("inf"))
@given(bad=st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_non_finite_values_that_take_part_are_named(bad):
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    for row, position in [(0, 1), (0, 2), (1, 2), (1, 3)]:
        values = torch.zeros(2, 4)
        values[row, position] = bad
        with pytest.raises(DataError, match=f"value at row {row}, position {position}"):
            compute_gae_advantage(values, None, mask)
        with pytest.raises(DataError, match=f"row {row}, position {position}"):
            compute_td_errors(values, None, mask)
    ignored = torch.zeros(2, 4)
    ignored[:, 0] = bad
    ignored[0, 1] = bad
    mask[1, 1] = 0
    assert not compute_gae_advantage(
        ignored, None, mask, first_token="initial_value", initial_value=0.0
    ).any()


def test_non_finite_rewards_are_named_and_those_that_are_not_read_are_not():
    values, mask = torch.zeros(2, 3), torch.tensor([[0, 1, 1], [0, 1, 0]])
    with pytest.raises(DataError, match="reward at row 1, position 1"):
        compute_gae_advantage(values, torch.tensor([1.0, float("nan")]), mask)
    compute_gae_advantage(values, torch.tensor([1.0, 1.0]), mask)
    unread = torch.full((2, 3), float("nan"))
    unread[0, 2] = unread[1, 1] = 1.0
    assert compute_gae_advantage(values, unread, mask, lam=1.0)[0].tolist() == [0.0, 1.0, 1.0]


def test_on_an_accelerator_bad_tokens_come_back_as_nan_at_their_places(monkeypatch):
    monkeypatch.setattr(advantage_module, "_raises_at_once", lambda device: False)
    values, mask = torch.zeros(2, 5), torch.ones(2, 5)
    values[0, 2] = float("inf")
    found = compute_gae_advantage(values, None, mask)
    # δ at 2 and 3 reads V_2; nothing else is spoilt.
    assert found.isnan().nonzero().tolist() == [[0, 2], [0, 3]]


def test_wrong_arguments_are_refused():
    values, mask = torch.zeros(2, 3), torch.ones(2, 3)
    for wrong in ({"gamma": 0.0}, {"gamma": 1.1}, {"lam": -0.1}, {"lam": 1.5}, {"first_token": "last"}):
        with pytest.raises(ConfigError):
            compute_gae_advantage(values, None, mask, **wrong)
    with pytest.raises(ConfigError):
        compute_gae_advantage(values, None, mask, initial_value=float("nan"))
    with pytest.raises(ConfigError, match="choose one of change, level"):
        compute_gae_advantage(values, None, mask, credit="both")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no end to reward"):
        compute_gae_advantage(values, torch.zeros(2), mask, credit="level")
    with pytest.raises(DataError, match="shape"):
        compute_gae_advantage(values[:1], None, mask)
    with pytest.raises(DataError, match="shape"):
        compute_gae_advantage(values, torch.zeros(5), mask)
    with pytest.raises(DataError, match="packs several samples"):
        segments = torch.tensor([[0, 0, 1], [0, 0, 0]])
        compute_gae_advantage(values, torch.zeros(2), mask, segment_ids=segments)
