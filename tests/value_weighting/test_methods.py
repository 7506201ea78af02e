"""What every method keeps and loses of the critic's weights, and what none depends on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor

from tests.value_weighting.micro_batches import (
    EOS,
    Layout,
    Sample,
    by_sample,
    lay_out,
    make_samples,
    same,
    steps,
)
from wmtp_ray.config.weighting import (
    CriticObjectiveKind,
    CriticWeighting,
    WeightingConfig,
)
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.value_weighting import compute_gae_advantage
from wmtp_ray.value_weighting.advantage import FirstToken
from wmtp_ray.value_weighting.methods import WeightingMethod, build_method
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage
from wmtp_ray.value_weighting.methods.matched import PRIOR_TOKENS

MOVED = ("circular_shift", "shuffled", "random_matched", "sequence_mean")
SECTIONS = get_args(get_args(WeightingConfig)[0])
METHODS = tuple(name for section in SECTIONS for name in get_args(section.model_fields["method"].annotation))
BY_TOKEN = tuple(name for name in METHODS if name != "rho1")
"""A method that is added is held to this as well. Rho-1, which weighs by the policy's losses, has tests of its own."""
MANY = make_samples([(2, 5 + i % 9) for i in range(40)], 0)
ROWS: Layout = [[[i, i + 1], [i + 2, i + 3]] for i in range(0, 40, 4)]


def alone(tensor: Tensor) -> Tensor:
    return tensor


def method(name: str, folds: int = 1, **settings: object) -> WeightingMethod:
    config = TypeAdapter(WeightingConfig).validate_python({"method": name, **settings})
    return build_method(config, EOS, folds=folds)


def weights_of(found: WeightingMethod, step: list[MicroBatch]) -> dict[int, Tensor]:
    return by_sample(step, found.step(step, alone))


@pytest.mark.parametrize("name", BY_TOKEN)
@given(steps())
def test_weights_do_not_depend_on_packing(name: str, step: tuple[list[Sample], Layout, Layout]) -> None:
    samples, *layouts = step
    left, right = method(name), method(name)
    for _ in range(2):  # the second step uses what the first one left
        one, other = (
            weights_of(m, lay_out(samples, layout)) for m, layout in zip((left, right), layouts, strict=True)
        )
        same(one, other)
    assert all(bool((w >= 0).all()) for w in one.values())


@pytest.mark.parametrize("name", BY_TOKEN)
def test_two_ranks_weigh_as_one(name: str) -> None:
    together, ranks = method(name), [method(name), method(name)]
    step = lay_out(MANY, ROWS)
    shares = [step[0::2], step[1::2]]
    for _ in range(2):
        expected = by_sample(step, together.step(step, alone))
        meeting, sent = Barrier(2, timeout=60), [torch.empty(0)] * 2

        def total(rank: int, tensor: Tensor, meeting: Barrier = meeting, sent: list[Tensor] = sent) -> Tensor:
            sent[rank] = tensor.clone()
            meeting.wait()
            result = sent[0] + sent[1]
            meeting.wait()
            return result

        with ThreadPoolExecutor(2) as threads:
            parts = threads.map(lambda r: ranks[r].step(shares[r], partial(total, r)), range(2))
            found = {
                sample: weights
                for share, part in zip(shares, parts, strict=True)
                for sample, weights in by_sample(share, part).items()
            }
        same(found, expected)
        assert ranks[0].state_dict() == ranks[1].state_dict()


@pytest.mark.parametrize("name", ["circular_shift", "shuffled"])
@pytest.mark.parametrize("eos_weight", ["one", "method"])
def test_what_is_moved_stays_the_same_numbers(name: str, eos_weight: str) -> None:
    step = lay_out(MANY, ROWS)
    critic = weights_of(method("critic"), step)
    control = weights_of(method(name, eos_weight=eos_weight), step)
    last = -1 if eos_weight == "one" else None
    for sample, weights in critic.items():
        torch.testing.assert_close(control[sample].sort().values, weights.sort().values)
        if eos_weight == "one":
            assert control[sample][-1] == weights[-1]
        if name == "circular_shift" and len(weights[:last]) > 1:
            rotations = [torch.roll(weights[:last], n) for n in range(1, len(weights[:last]))]
            assert any(torch.equal(control[sample][:last], rotation) for rotation in rotations)
    assert sum(not torch.equal(control[s], critic[s]) for s in critic) > 35
    other_seed = weights_of(method(name, eos_weight=eos_weight, seed=1), step)
    assert any(not torch.equal(control[s], other_seed[s]) for s in critic)


def test_the_sequence_mean_and_the_flipped_sign() -> None:
    step = lay_out(MANY, ROWS)
    critic = weights_of(method("critic"), step)
    mean = weights_of(method("sequence_mean"), step)
    flipped = weights_of(method("sign_flipped"), step)
    for sample, weights in critic.items():
        torch.testing.assert_close(mean[sample], weights.mean().expand_as(weights))
        inner = (weights > 0.11) & (weights < 2.99) & (flipped[sample] > 0.11) & (flipped[sample] < 2.99)
        torch.testing.assert_close(
            flipped[sample][inner], 1 / weights[inner]
        )  # exp(-x) where nothing is clipped


def test_random_weights_have_the_critics_distribution() -> None:
    samples = make_samples([(1, 60)] * 60, 3)
    step = lay_out(samples, [[[i]] for i in range(60)])
    critic = torch.cat(list(weights_of(method("critic"), step).values()))
    drawn = torch.cat(list(weights_of(method("random_matched"), step).values()))
    assert drawn.mean() == pytest.approx(critic.mean().item(), abs=0.05)
    assert drawn.std() == pytest.approx(critic.std().item(), abs=0.05)
    assert abs(np.corrcoef(drawn, critic)[0, 1]) < 0.06


def test_the_class_table_is_the_mean_over_earlier_steps() -> None:
    step = lay_out(MANY, ROWS)
    control = method("class_position_matched")
    first = weights_of(control, step)
    assert all(torch.equal(w, torch.ones_like(w)) for w in first.values())
    second = weights_of(control, step)
    critic = torch.cat(list(weights_of(method("critic"), step).values())).double()
    cells = torch.cat(list(by_sample(step, [m.token_cells_RT for m in step]).values()))  # type: ignore[misc]
    found = torch.cat(list(second.values()))
    mean = critic.mean()
    for cell in cells.unique():
        own = critic[cells == cell]
        expected = (own.sum() + PRIOR_TOKENS * mean) / (len(own) + PRIOR_TOKENS)
        assert found[cells == cell].unique().tolist() == [pytest.approx(expected.item(), rel=1e-5)]


def test_a_random_match_draws_no_weight_of_eos_where_that_is_fixed() -> None:
    step = lay_out(make_samples([(1, 12)] * 40, 3), [[[i]] for i in range(40)])
    settings = {"eos_weight": "one", "lam": 0.0}
    critic, drawn = (weights_of(method(name, **settings), step) for name in ("critic", "random_matched"))
    of_others = torch.cat([weights[:-1] for weights in critic.values()])
    for weights in drawn.values():
        near = (weights[:-1, None] - of_others).abs().min(dim=1).values
        assert near.max() < 2 * (3.0 - 0.1) / 512


@given(st.integers(0, 2**31))
def test_folds_are_whitened_by_statistics_of_their_own(seed: int) -> None:
    samples = make_samples([(2, 6)] * 6, seed)
    step = lay_out(samples, [[[0, 1], [2]], [[3, 4, 5]]], folds=2)
    crossed = method("critic", folds=2)
    found = weights_of(crossed, step)
    for fold in range(2):
        own = lay_out([s for i, s in enumerate(samples) if i % 2 == fold], [[[0], [1], [2]]])
        expected = weights_of(method("critic"), own)
        same({sample: found[sample] for sample in expected}, expected)


def test_a_held_out_sample_has_the_mean_of_all_folds_weights() -> None:
    step = lay_out(MANY, ROWS, folds=2)
    crossed = method("critic", folds=2)
    crossed.step(step, alone)
    assert isinstance(crossed, CriticAdvantage)
    [held_out] = lay_out(MANY[:2], [[[0], [1]]])
    values_RT = held_out.values_RT
    assert values_RT is not None
    folded = MicroBatch(
        0, held_out.planned, held_out.batch, values_RT, fold_values_FRT=torch.stack([values_RT, -values_RT])
    )
    of_fold = []
    for ema, sign in zip(crossed.emas, (1, -1), strict=True):
        single = method("critic")
        assert isinstance(single, CriticAdvantage)
        single.emas = [ema]
        of_fold.append(single.weigh(replace(held_out, values_RT=sign * values_RT)))
    torch.testing.assert_close(crossed.weigh(folded), (of_fold[0] + of_fold[1]) / 2)


@pytest.mark.parametrize(("critic", "first"), [("ranking", "zero"), ("lambda_return", "prompt_value")])
def test_the_default_first_token_follows_the_critic(critic: CriticObjectiveKind, first: FirstToken) -> None:
    [micro_batch] = lay_out(MANY[:3], [[[0, 1], [2]]])
    default = build_method(CriticWeighting(), EOS, critic)
    named = build_method(CriticWeighting(first_token=first), EOS)
    found_RT, expected_RT = default.signal(micro_batch), named.signal(micro_batch)
    assert found_RT is not None and expected_RT is not None
    assert torch.equal(found_RT, expected_RT)


def test_rewards_end_the_advantages_of_a_lambda_return_critic() -> None:
    [micro_batch] = lay_out(MANY[:3], [[[0, 1], [2]]])
    found = build_method(CriticWeighting(rewards=True, gamma=0.9), EOS, "lambda_return")
    signal_RT = found.signal(micro_batch)
    assert signal_RT is not None and micro_batch.values_RT is not None
    rewards_RT = torch.zeros(micro_batch.batch.shape)
    rewards_RT[micro_batch.batch.sample_ids[0] != micro_batch.batch.segment_ids] = 0.0
    rewards_RT[0][micro_batch.batch.segment_ids[0] == 1] = 1.0
    rewards_RT[1] = 1.0
    assert micro_batch.planned.correct.tolist() == [False, True, True]
    expected_RT = compute_gae_advantage(
        micro_batch.values_RT,
        rewards_RT,
        micro_batch.batch.response_mask,
        gamma=0.9,
        first_token="prompt_value",
        segment_ids=micro_batch.batch.segment_ids,
    )
    torch.testing.assert_close(signal_RT, expected_RT)


@pytest.mark.parametrize("name", BY_TOKEN)
def test_a_restored_method_goes_on_as_the_saved_one(name: str) -> None:
    step = lay_out(MANY, ROWS)
    saved, restored = method(name), method(name)
    saved.step(step, alone)
    restored.load_state_dict(saved.state_dict())
    same(weights_of(saved, step), weights_of(restored, step))
    same(by_sample(step, [saved.weigh(m) for m in step]), by_sample(step, [restored.weigh(m) for m in step]))
