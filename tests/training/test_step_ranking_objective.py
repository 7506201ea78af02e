"""All comparisons of a step: against one loss over all programs with its whole graph, and whatever the cut."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from tests.training.scenes import Scene, micro_batches
from tests.training.test_critic_objective import ALONE, assert_same_gradients, run_step
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.losses import ranking_loss_from_means, segment_means
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.generator import seed_generators

SEED = 3


def every_comparison(scene: Scene, critic: ValueModel, batches: list[MicroBatch]) -> tuple[Tensor, int]:
    """The loss with all micro-batches' graphs in memory, and how many comparisons it has."""
    of_problem: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
    index = scene.store.index
    for m in batches:
        seed_generators(SEED, 0, m.number)
        means = segment_means(
            critic(m.batch), m.batch.response_mask, m.batch.segment_ids, len(m.batch.sample_ids)
        )
        for row, mean in zip(m.batch.sample_ids.tolist(), means.mean_S, strict=True):
            sides = of_problem.setdefault(int(index.row_problem[row]) % 2, ([], []))
            sides[0 if index.row_correct[row] else 1].append(mean)
    compared = [pair for sides in of_problem.values() for pair in product(*sides)]
    correct, incorrect = (torch.stack(side) for side in zip(*compared, strict=True))
    return ranking_loss_from_means(correct, incorrect), len(compared)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("count", "size"), [(3, 2), (1, 6)])
def test_a_step_is_the_ranking_of_all_its_programs(
    scene: Scene, count: int, size: int, dropout: float
) -> None:
    """With one micro-batch the pass that found the means is kept, with three each runs again, with the same dropout."""
    step = scene.plan("pairs", samples=6, micro_batches_per_step=count, samples_per_micro_batch=size).step(0)
    batches = micro_batches(scene, step)
    assert len(batches) == count
    critic = scene.critic(dropout=dropout).train()
    metrics, gradients = run_step(scene.step_objective(critic, SEED), step, batches)

    loss, comparisons = every_comparison(scene, critic, batches)
    loss.backward()
    expected = [p.grad for p in critic.trainable_parameters().values() if p.grad is not None]
    assert_same_gradients(gradients, expected)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["pairs"] == comparisons > 6


def test_without_shared_problems_it_is_the_ranking_of_the_planned_pairs(scene: Scene) -> None:
    step = scene.plan("pairs").step(0)
    batches = micro_batches(scene, step)
    critic = scene.critic()
    objective = scene.step_objective(critic, SEED)
    rows = [m.planned.rows[i] for m in batches for pair in m.planned.pairs for i in pair]
    objective._row_problem = objective._row_problem.copy()
    objective._row_problem[rows] = [place // 2 for place in range(len(rows))]
    metrics, gradients = run_step(objective, step, batches)
    expected, of_pairs = run_step(scene.critic_objective(critic), step, batches)
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert_same_gradients(gradients, of_pairs)


def test_shuffled_labels_move_whole_pairs(scene: Scene) -> None:
    """Some sides are exchanged, so other programs are compared; validation keeps the true labels."""
    step = scene.plan("pairs", samples=6, micro_batches_per_step=1, samples_per_micro_batch=6).step(0)
    batches, critic = micro_batches(scene, step), scene.critic()
    true, shuffled = (scene.step_objective(critic, SEED, shuffle) for shuffle in (None, 1))
    metrics = [run_step(objective, step, batches)[0] for objective in (true, shuffled)]
    assert metrics[0]["margin"] != pytest.approx(metrics[1]["margin"], rel=0.1)
    with torch.no_grad():
        assert true.evaluate(batches, ALONE) == shuffled.evaluate(batches, ALONE)
