"""The statistics of a policy's step: its EMA, what validation does with it, what is logged and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from tests.training.policy_steps import ALONE, assert_same_gradients, run_step, take_gradients
from tests.training.scenes import Scene, Values, micro_batches
from wmtp_ray.config.weighting import CriticWeighting
from wmtp_ray.errors import DataError
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage


def test_the_ema_is_updated_before_it_is_used(scene: Scene, values: Values) -> None:
    plan = scene.plan(samples=8)
    objective = scene.policy_objective(weighting=CriticWeighting(ema_momentum=0.3, ema_warmup_steps=4))
    first, _ = run_step(objective, plan.step(0), micro_batches(scene, plan.step(0), values))
    assert (first["ema_mean"], first["ema_std"]) == (first["advantage_mean"], first["advantage_std"])
    second, _ = run_step(objective, plan.step(1), micro_batches(scene, plan.step(1), values))
    assert first["advantage_mean"] != second["advantage_mean"]
    scored = micro_batches(scene, plan.step(0), values)
    every = torch.cat([m.values_RT[m.batch.response_mask] for m in scored if m.values_RT is not None])
    assert first["value_mean"] == pytest.approx(every.mean().item(), rel=1e-5)
    assert first["value_std"] == pytest.approx(every.std(correction=0).item(), rel=1e-5)
    for name in ("mean", "std"):  # update 2 of 4 keeps a quarter of the old
        expected = 0.25 * first[f"ema_{name}"] + 0.75 * second[f"advantage_{name}"]  # type: ignore[operator]
        assert second[f"ema_{name}"] == pytest.approx(expected)


def test_validation_uses_the_training_ema_and_changes_nothing(scene: Scene, values: Values) -> None:
    train, held_out = scene.plan(samples=4), scene.plan(split="valid", samples=4)
    step = train.step(0)
    batches = micro_batches(scene, step, values)
    validation = micro_batches(scene, held_out.step(0), values)
    objective = scene.policy_objective(weighting=CriticWeighting(normalize="mean_one"))
    run_step(objective, step, batches)

    state = objective.state_dict()
    assert isinstance(objective.method, CriticAdvantage)
    [ema] = objective.method.emas
    objective.prepare(step, batches, ALONE)  # a step is under way
    state_in_step = objective.state_dict()
    with torch.no_grad():
        metrics = objective.evaluate(validation, ALONE)
        again = objective.evaluate(iter(validation), ALONE)
    assert metrics == again
    assert objective.state_dict() == state_in_step != state
    assert metrics["ema_mean"] == ema.mean and metrics["ema_std"] == ema.std
    weights = [objective.token_weights(m) for m in validation]
    every = torch.cat([w[m.batch.response_mask] for w, m in zip(weights, validation, strict=True)])
    assert metrics["weight_mean"] == pytest.approx(every.mean().item(), rel=1e-6)
    whitened = (metrics["advantage_mean"] - ema.mean) / ema.std  # type: ignore[operator]
    assert abs(whitened) > 1e-3  # its own statistics would be others
    assert not any(p.grad is not None for p in objective.model.parameters())
    # The step goes on as if nobody had looked.
    for m in batches:
        objective.backward(m)
    interrupted = objective.metrics(ALONE), take_gradients(objective.model)

    untouched = scene.policy_objective(weighting=CriticWeighting(normalize="mean_one"))
    run_step(untouched, step, batches)
    expected = run_step(untouched, step, batches)
    assert interrupted[0] == expected[0]
    assert_same_gradients(interrupted[1], expected[1], 0.0)


def test_validation_before_the_first_step_weighs_every_token_1(scene: Scene, values: Values) -> None:
    held_out = micro_batches(scene, scene.plan(split="valid").step(0), values)
    objective = scene.policy_objective()
    metrics = objective.evaluate(held_out, ALONE)
    assert metrics["weight_mean"] == metrics["weight_max"] == 1.0
    assert metrics["loss"] == pytest.approx(metrics["loss_unweighted"])
    assert isinstance(objective.method, CriticAdvantage)
    assert objective.method.emas[0].updates == 0


@pytest.mark.parametrize("normalize", ["none", "mean_one"])
def test_the_held_out_loss_compares_with_the_training_curve(
    scene: Scene, values: Values, normalize: str
) -> None:
    """On the same samples, with the same statistics and model, both are the same number."""
    step = scene.plan().step(0)
    batches = micro_batches(scene, step, values)
    objective = scene.policy_objective(weighting=CriticWeighting(normalize=normalize))  # type: ignore[arg-type]
    trained, _ = run_step(objective, step, batches)
    with torch.no_grad():
        held_out = objective.evaluate(batches, ALONE)
    assert held_out["loss"] == pytest.approx(trained["loss"], rel=1e-6)


def test_the_logged_weights_are_those_of_the_whole_step(scene: Scene, values: Values) -> None:
    step = scene.plan().step(0)
    batches = micro_batches(scene, step, values)
    objective = scene.policy_objective()
    metrics, _ = run_step(objective, step, batches)
    weights = torch.cat([objective.token_weights(m)[m.batch.response_mask] for m in batches]).double()
    assert metrics["weight_mean"] == pytest.approx(weights.mean().item())
    assert metrics["weight_std"] == pytest.approx(weights.std(correction=0).item())
    assert (metrics["weight_min"], metrics["weight_max"]) == (weights.min(), weights.max())
    assert metrics["weight_share_at_max"] == pytest.approx((weights == 3.0).double().mean().item())
    shares = weights / weights.sum()
    entropy = -(shares * shares.log()).sum() / math.log(len(weights))
    assert metrics["weight_entropy"] == pytest.approx(entropy.item())
    assert metrics["weight_ess"] == pytest.approx(
        (weights.sum() ** 2 / len(weights) / weights.square().sum()).item()
    )
    assert isinstance(metrics["weight_histogram"], list)
    assert (
        sum(metrics["weight_histogram"])
        == len(weights)
        == sum(int(m.targets.sum()) for m in step.micro_batches)
    )


def test_a_batch_that_is_not_the_plans_is_refused(scene: Scene, values: Values) -> None:
    plan = scene.plan(samples=8)
    with pytest.raises(AssertionError, match="targets per head"):
        scene.policy_objective().prepare(plan.step(0), micro_batches(scene, plan.step(1), values), ALONE)


def test_a_value_that_is_not_finite_is_refused(scene: Scene, values: Values) -> None:
    step = scene.plan().step(0)
    batches = micro_batches(scene, step, values)
    assert batches[0].values_RT is not None
    batches[0].values_RT[batches[0].batch.response_mask] = float("nan")
    with pytest.raises(DataError, match="nan"):
        scene.policy_objective().prepare(step, batches, ALONE)
