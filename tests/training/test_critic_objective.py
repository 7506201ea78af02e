"""The critic's step against the ranking loss of its pairs, one to a row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.training.scenes import CPU, Scene, micro_batches, sample_alone
from wmtp_ray.config import ValueModelConfig
from wmtp_ray.config.critic import LambdaReturnConfig
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.losses import pairwise_ranking_loss
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.critic_objective import LambdaReturnObjective, RankingObjective
from wmtp_ray.training.objective import Metrics

ALONE = Collective()


def run_step(
    objective: RankingObjective, step: PlannedStep, batches: list[MicroBatch]
) -> tuple[Metrics, list[Tensor]]:
    """The metrics and the gradients of one step."""
    objective.prepare(step, batches, ALONE)
    for batch in batches:
        objective.backward(batch)
    gradients = [
        p.grad.clone() for p in objective.model.trainable_parameters().values() if p.grad is not None
    ]
    objective.model.zero_grad()
    return objective.metrics(ALONE), gradients


def assert_same_gradients(left: list[Tensor], right: list[Tensor]) -> None:
    scale = max(float(g.abs().max()) for g in right)
    assert scale > 1e-4
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=3e-5, atol=3e-5 * scale)


Side = tuple[Tensor, Tensor]
"""Values and response mask, pair p in row p."""


def unpacked_pairs(scene: Scene, critic: ValueModel, batches: list[MicroBatch]) -> tuple[Side, Side]:
    """The correct and the incorrect side of every pair, each sample passed through the critic on its own. Which side
    is which comes from the store; that both are of one problem is checked."""
    index = scene.store.index
    sides: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}
    for m in batches:
        alone = sample_alone(m.batch)
        for pair in m.planned.pairs:
            a, b = (m.planned.rows[i] for i in pair)
            assert index.row_problem[a] == index.row_problem[b]
            for sample in (a, b):
                batch = alone[sample]
                sides[bool(index.row_correct[sample])].append((critic(batch)[0], batch.response_mask[0]))

    def stacked(side: list[tuple[Tensor, Tensor]]) -> Side:
        values, masks = ([row[i] for row in side] for i in (0, 1))
        pad = torch.nn.utils.rnn.pad_sequence
        return pad(values, batch_first=True), pad(masks, batch_first=True)

    return stacked(sides[True]), stacked(sides[False])


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_step_is_the_ranking_loss_of_its_pairs(scene: Scene, head: str) -> None:
    step = scene.plan("pairs", samples=5, samples_per_micro_batch=3).step(0)
    batches = micro_batches(scene, step)
    critic = scene.critic(head=head)
    metrics, gradients = run_step(scene.critic_objective(critic), step, batches)

    (v_pos, mask_pos), (v_neg, mask_neg) = unpacked_pairs(scene, critic, batches)
    loss = pairwise_ranking_loss(v_pos, v_neg, mask_pos, mask_neg)
    loss.backward()
    expected = [p.grad for p in critic.trainable_parameters().values() if p.grad is not None]
    assert_same_gradients(gradients, expected)
    means = [(v * m).sum(1) / m.sum(1) for v, m in ((v_pos, mask_pos), (v_neg, mask_neg))]
    margin = (means[0] - means[1]).detach()
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["pairwise_accuracy"] == pytest.approx((margin > 0).double().mean().item())
    assert metrics["margin"] == pytest.approx(margin.mean().item(), rel=1e-4)
    shorter = mask_pos.sum(1) < mask_neg.sum(1)
    assert metrics["shorter_wins_accuracy"] == pytest.approx(shorter.double().mean().item())
    assert metrics["pairs"] == 5


def test_an_untrained_critic_has_ties_and_no_accuracy(scene: Scene) -> None:
    step = scene.plan("pairs").step(0)
    untrained = ValueModel.from_pretrained(ValueModelConfig(name=str(scene.model), head="linear"))
    with torch.no_grad():
        metrics = scene.critic_objective(untrained).evaluate(micro_batches(scene, step), ALONE)
    assert metrics["ties"] == 1 and math.isnan(metrics["pairwise_accuracy"])  # type: ignore[arg-type]
    assert metrics["loss"] == pytest.approx(math.log(2))


@pytest.mark.parametrize("compares", ["planned", "step"])
def test_the_cut_into_micro_batches_changes_nothing(scene: Scene, compares: str) -> None:
    critic = scene.critic()
    results = []
    for count, size in ((1, 4), (2, 2), (4, 1)):
        step = scene.plan("pairs", micro_batches_per_step=count, samples_per_micro_batch=size).step(0)
        assert len(step.micro_batches) == count
        objective = (
            scene.critic_objective(critic) if compares == "planned" else scene.step_objective(critic, seed=0)
        )
        results.append(run_step(objective, step, micro_batches(scene, step)))
    for metrics, gradients in results[1:]:
        assert metrics == pytest.approx(results[0][0], rel=1e-5)
        assert_same_gradients(gradients, results[0][1])


def test_validation_is_the_same_measure_and_leaves_the_step_alone(scene: Scene) -> None:
    step = scene.plan("pairs").step(0)
    batches = micro_batches(scene, step)
    objective = scene.critic_objective()
    metrics, gradients = run_step(objective, step, batches)
    objective.prepare(step, batches, ALONE)
    with torch.no_grad():
        assert objective.evaluate(batches, ALONE) == metrics
        assert objective.evaluate([], ALONE)["pairs"] == 0
    for m in batches:
        objective.backward(m)
    assert objective.metrics(ALONE) == metrics
    assert_same_gradients(
        [p.grad for p in objective.model.trainable_parameters().values() if p.grad is not None], gradients
    )


@pytest.mark.parametrize(("head", "fixed"), [("linear", True), ("mlp", True), ("sigmoid", False)])
def test_ranking_leaves_an_offset_that_it_cannot_see(scene: Scene, head: str, fixed: bool) -> None:
    step = scene.plan("pairs", samples=5, samples_per_micro_batch=3).step(0)
    batches = micro_batches(scene, step)
    critic = scene.critic(head=head)
    objective = scene.critic_objective(critic)
    with torch.no_grad():
        before = objective.evaluate(batches, ALONE)
        critic.head.out.bias.add_(1.0)
        after = objective.evaluate(batches, ALONE)
    assert (after["loss"] == pytest.approx(before["loss"], abs=1e-6)) == fixed
    assert critic.head.out.bias.requires_grad == (not fixed)
    config = LambdaReturnConfig(lam=0.0, lam_end=1.0, lam_schedule="linear")
    assert LambdaReturnObjective(scene.critic(head=head), CPU, config, 1).model.head.out.bias.requires_grad
