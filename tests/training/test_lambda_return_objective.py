"""The λ-return critic's step against its definition, and the control of shuffled labels."""

from __future__ import annotations

import pytest
import torch

from tests.training.scenes import CPU, Scene, micro_batches
from tests.training.test_critic_objective import ALONE, assert_same_gradients, run_step, unpacked_pairs
from wmtp_ray.config.critic import LambdaReturnConfig
from wmtp_ray.losses import lambda_return_targets
from wmtp_ray.training.critic_objective import LambdaReturnObjective, RankingObjective

CUTS = ((1, 4), (2, 2), (4, 1))


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_a_step_is_the_mean_of_both_sides(scene: Scene, loss: str) -> None:
    step = scene.plan("pairs", samples=5, samples_per_micro_batch=3).step(0)
    batches = micro_batches(scene, step)
    critic = scene.critic(head="linear")
    config = LambdaReturnConfig(loss=loss, lam=0.8, gamma=0.97, huber_delta=0.3)  # type: ignore[arg-type]
    metrics, gradients = run_step(LambdaReturnObjective(critic, CPU, config, 10), step, batches)
    total = torch.zeros(())
    for reward, (values, mask) in zip((1.0, 0.0), unpacked_pairs(scene, critic, batches), strict=True):
        rewards = torch.full((len(values),), reward)
        targets = lambda_return_targets(values.detach(), rewards, mask, 0.97, 0.8)
        far = (values - targets).abs()
        error = far**2 if loss == "mse" else torch.where(far < 0.3, far**2 / 2, 0.3 * (far - 0.3 / 2))
        total = total + ((error * mask).sum(dim=1) / mask.sum(dim=1)).mean() / 2
    total.backward()
    expected = [p.grad for p in critic.trainable_parameters().values() if p.grad is not None]
    assert_same_gradients(gradients, expected)
    assert metrics["loss"] == pytest.approx(total.item(), rel=1e-5)
    assert metrics["pairs"] == 5 and metrics["lam"] == 0.8


def test_lambda_moves_over_the_steps_and_survives_a_restart(scene: Scene) -> None:
    plan = scene.plan("pairs", samples=12)
    config = LambdaReturnConfig(lam=0.0, lam_end=1.0, lam_schedule="linear")
    objective = LambdaReturnObjective(scene.critic(), CPU, config, plan.num_steps)
    seen = []
    for step in plan.steps():
        objective.prepare(step, [], ALONE)
        seen.append(objective.state_dict()["lam"])
    assert seen == [0.0, 0.5, 1.0]
    restored = LambdaReturnObjective(scene.critic(), CPU, config, plan.num_steps)
    restored.load_state_dict(objective.state_dict())
    assert restored.state_dict() == objective.state_dict()


def test_shuffled_labels_are_a_function_of_seed_and_pair(scene: Scene) -> None:
    critic = scene.critic()
    margins = {}
    for seed in (None, 0, 1):
        by_cut = []
        for count, size in CUTS:
            step = scene.plan("pairs", micro_batches_per_step=count, samples_per_micro_batch=size).step(0)
            batches = micro_batches(scene, step)
            objective = RankingObjective(critic, CPU, seed)
            metrics, gradients = run_step(objective, step, batches)
            by_cut.append((metrics, gradients))
            with torch.no_grad():
                true = objective.evaluate(batches, ALONE)
            assert true["margin"] == pytest.approx(margins.get(None, true["margin"]), rel=1e-4)
        for metrics, gradients in by_cut[1:]:
            assert metrics["margin"] == pytest.approx(by_cut[0][0]["margin"], rel=1e-4)
            assert_same_gradients(gradients, by_cut[0][1])
        margins[seed] = by_cut[0][0]["margin"]
    assert len({round(float(m), 6) for m in margins.values()}) > 1  # type: ignore[arg-type]


def test_about_half_of_the_pairs_are_exchanged(scene: Scene) -> None:
    from wmtp_ray.training.critic_objective import _shuffled

    [batch] = micro_batches(
        scene, scene.plan("pairs", samples=40, micro_batches_per_step=1, samples_per_micro_batch=40).step(0)
    )
    exchanged = (_shuffled(batch, 7) != batch.planned.pairs).all(axis=1)
    assert 10 <= exchanged.sum() <= 30
    assert (_shuffled(batch, 7) == _shuffled(batch, 7)).all()
    assert (_shuffled(batch, None) == batch.planned.pairs).all()
