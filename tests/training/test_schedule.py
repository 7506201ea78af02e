"""Learning rates over a run."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.training.scenes import Scene
from wmtp_ray.config.run import OptimizerConfig, ScheduleConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.training.optimizer import build_optimizer
from wmtp_ray.training.schedule import build_schedule, rate_factor

SHAPES = st.sampled_from(["cosine", "linear", "constant"])


@example("linear", 7, 100)  # 0.07 * 100 is 7.000000000000001
@given(SHAPES, st.integers(0, 100), st.integers(1, 2000))
def test_up_then_down_and_never_up_again(shape: str, percent: int, steps: int) -> None:
    config = ScheduleConfig(shape=shape, warmup_share=percent / 100)  # type: ignore[arg-type]
    factors = [rate_factor(step, steps, config) for step in range(steps + 50)]
    warmup = -(-Fraction(percent, 100) * steps // 1)
    top = factors.index(max(factors))
    assert top == min(warmup, len(factors) - 1)
    assert all(a < b for a, b in pairwise(factors[: top + 1]))
    assert all(a >= b for a, b in pairwise(factors[top:]))
    assert all(0 < f <= 1 for f in factors[:steps])
    if shape != "constant":
        assert factors[steps:] == pytest.approx([0.0] * 50, abs=1e-12) or warmup >= steps


def test_worked_examples() -> None:
    linear = ScheduleConfig(shape="linear", warmup_share=0)
    assert [rate_factor(s, 10, linear) for s in range(12)] == pytest.approx(
        [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0]
    )
    cosine = ScheduleConfig(shape="cosine", warmup_share=0.5)
    assert [rate_factor(s, 4, cosine) for s in range(5)] == pytest.approx([1 / 3, 2 / 3, 1, 0.5, 0])


def test_every_group_follows_its_own_rate(scene: Scene) -> None:
    model = scene.critic()
    config = OptimizerConfig(learning_rate=0.1, head_learning_rate=0.4)
    optimizer = build_optimizer(model, config)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(model.trainable_parameters())
    schedule = build_schedule(optimizer, 4, ScheduleConfig(shape="linear", warmup_share=0))
    rates = []
    for _ in range(4):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    assert torch.allclose(
        torch.tensor(rates), torch.tensor([[0.1, 0.4]]) * torch.tensor([[1, 0.75, 0.5, 0.25]]).T
    )


def test_the_head_shares_the_rate_by_default_and_a_policy_has_one_group(scene: Scene) -> None:
    groups = build_optimizer(scene.critic(), OptimizerConfig(learning_rate=0.1)).param_groups
    assert [g["lr"] for g in groups] == [0.1, 0.1]
    assert len(build_optimizer(scene.critic(train="head"), OptimizerConfig()).param_groups) == 1
    assert len(build_optimizer(scene.policy(), OptimizerConfig()).param_groups) == 1


def test_a_model_without_anything_to_train_is_refused(scene: Scene) -> None:
    frozen = scene.critic()
    frozen._trainable = ()
    with pytest.raises(ModelError, match=r"no parameter of the model trains; set model\.lora"):
        build_optimizer(frozen, OptimizerConfig())
