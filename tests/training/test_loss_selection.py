"""Rho-1 inside a step: which targets it keeps, against the plain definition, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.training.policy_steps import ALONE, assert_same_gradients, run_step, take_gradients
from tests.training.scenes import CPU, Scene, micro_batches
from wmtp_ray.config.weighting import LossConfig, Rho1Weighting
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.losses import compute_mtp_ce_loss, mtp_targets
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.scorer import join_losses, next_token_losses
from wmtp_ray.value_weighting import rho1_weights
from wmtp_ray.value_weighting.methods.rho1 import Rho1
from wmtp_ray.value_weighting.rho1 import kept_targets

HEADS = 3


def with_reference(batches: list[MicroBatch]) -> list[MicroBatch]:
    """The micro-batches with losses of a reference, a function of each sample."""

    def losses(sample: int, targets: int) -> np.ndarray:
        return np.random.default_rng(sample).exponential(5.0, targets).astype(np.float32)

    return [
        replace(
            m,
            reference_losses_RT=join_losses(
                [
                    losses(sample, targets)
                    for sample, targets in zip(m.planned.rows, m.planned.targets.tolist(), strict=True)
                ],
                m.batch,
            ),
        )
        for m in batches
    ]


def test_the_reference_of_a_head_predicts_the_same_token(scene: Scene) -> None:
    """Head k's reference for y_{t+k} is the reference model's loss from position t+k−1."""
    [m, _] = micro_batches(scene, scene.plan().step(0))
    reference = scene.policy(1)
    losses_RT = join_losses(next_token_losses(reference, m.batch, CPU), m.batch)
    with torch.no_grad():
        logits_RTV = reference(m.batch)[:, :, 0]
    for k in range(1, HEADS + 1):
        targets_RT = mtp_targets(m.batch.labels, m.batch.segment_ids, k)
        rows, positions = (targets_RT != -100).nonzero(as_tuple=True)
        found = Rho1._reference(k, replace(m, reference_losses_RT=losses_RT))[rows, positions]
        expected = cross_entropy(
            logits_RTV[rows, positions + k - 1], targets_RT[rows, positions], reduction="none"
        )
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def step_of(scene: Scene, count: int, size: int) -> tuple[PlannedStep, list[MicroBatch]]:
    step = scene.plan(micro_batches_per_step=count, samples_per_micro_batch=size).step(0)
    return step, with_reference(micro_batches(scene, step))


def plain_weights(policy: MTPPolicy, m: MicroBatch, config: Rho1Weighting, eos: int) -> Tensor:
    """[R, T, K], written out once more from logits."""
    batch = m.batch
    with torch.no_grad():
        logits = policy(batch).double()
    labels = [mtp_targets(batch.labels, batch.segment_ids, k) for k in range(1, HEADS + 1)]
    policy_ce = torch.stack(
        [
            cross_entropy(
                logits[:, :, k].flatten(0, 1), y.flatten(), ignore_index=-100, reduction="none"
            ).view(y.shape)
            for k, y in enumerate(labels)
        ],
        dim=-1,
    )
    assert m.reference_losses_RT is not None
    reference_ce = torch.stack([m.reference_losses_RT.roll(-k, dims=1) for k in range(1, HEADS + 1)], dim=-1)
    targets_RTK = torch.stack(labels, dim=-1)
    valid, is_eos = targets_RTK != -100, targets_RTK == eos
    if config.eos_weight == "one":
        valid = valid & ~is_eos
    weights = rho1_weights(policy_ce, reference_ce.double(), valid, config.k_percent, config.mode)
    return torch.where(is_eos, 1.0, weights) if config.eos_weight == "one" else weights


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mode": "absolute", "normalize": "mean_one"},
        {"mode": "difficult", "k_percent": 0.3, "eos_weight": "one", "normalize": "mean_one"},
    ],
)
def test_a_step_is_the_plain_definition(scene: Scene, settings: dict[str, Any]) -> None:
    config, eos = Rho1Weighting(**settings), eos_id(scene.tokenizer)
    step, batches = step_of(scene, 2, 2)
    policy = scene.policy(HEADS)
    objective = scene.policy_objective(policy, config)
    metrics, gradients = run_step(objective, step, batches)
    weights = [plain_weights(policy, m, config, eos) for m in batches]
    count_K = torch.tensor([float(step.head_targets(k)) for k in range(1, HEADS + 1)])
    sums_K = sum(w.sum(dim=(0, 1)) for w in weights)
    assert isinstance(sums_K, Tensor)
    scale_K = count_K / sums_K if config.normalize == "mean_one" else torch.ones(HEADS)
    loss = torch.zeros(())
    for m, weights_RTK in zip(batches, weights, strict=True):
        part = compute_mtp_ce_loss(
            policy(m.batch), m.batch.labels, None, weights_RTK, segment_ids=m.batch.segment_ids
        )
        loss = loss + (part.weighted_K * part.count_K * scale_K / count_K).sum() / HEADS
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert_same_gradients(gradients, take_gradients(policy), 3e-5)
    assert metrics["weight_mean"] == pytest.approx((sums_K.sum() / count_K.sum()).item())


def test_dropout_has_no_part_in_what_a_step_selects(scene: Scene) -> None:
    step, batches = step_of(scene, 2, 2)
    policy = scene.policy(HEADS, dropout=0.5)
    policy.train()
    objective = scene.policy_objective(policy, Rho1Weighting(selection="step", k_percent=0.3))
    found = []
    for drawn in (1, 2):
        torch.manual_seed(drawn)  # what workers or a resume leave behind
        objective.prepare(step, batches, ALONE)
        assert policy.training
        for m in batches:
            torch.manual_seed(m.number)
            objective.backward(m)
        found.append(objective.metrics(ALONE))
    assert found[0] == found[1]


@pytest.mark.parametrize("eos_weight", ["method", "one"])
def test_exactly_the_share_is_kept_of_each_head_and_micro_batch(scene: Scene, eos_weight: str) -> None:
    config = Rho1Weighting(k_percent=0.35, eos_weight=eos_weight)  # type: ignore[arg-type]
    step, batches = step_of(scene, 2, 2)
    objective = scene.policy_objective(scene.policy(HEADS), config)
    run_step(objective, step, batches)
    for m in batches:
        weights_RTK = objective._weights[m.number].of_tokens
        for k in range(1, HEADS + 1):
            targets_RT = mtp_targets(m.batch.labels, m.batch.segment_ids, k)
            always = int((targets_RT == eos_id(scene.tokenizer)).sum()) if eos_weight == "one" else 0
            ranked = int((targets_RT != -100).sum()) - always
            assert weights_RTK[..., k - 1].sum() == kept_targets(ranked, 0.35) + always


def test_selection_over_the_step_does_not_depend_on_its_cut(scene: Scene) -> None:
    config = Rho1Weighting(selection="step", normalize="mean_one", eos_weight="one")
    policy = scene.policy(HEADS)
    results = []
    for count, size in ((1, 4), (2, 2), (4, 1)):
        step, batches = step_of(scene, count, size)
        results.append((step, *run_step(scene.policy_objective(policy, config), step, batches)))
    for step, metrics, gradients in results:
        assert metrics["loss"] == pytest.approx(results[0][1]["loss"], rel=1e-5)
        assert metrics["weight_mean"] == pytest.approx(results[0][1]["weight_mean"], rel=1e-6)
        assert metrics["extra_forward_tokens"] == step.tokens
        assert_same_gradients(gradients, results[0][2], 3e-5)


def test_everything_kept_is_the_uniform_loss(scene: Scene) -> None:
    step, batches = step_of(scene, 2, 2)
    policy = scene.policy(HEADS)
    kept, _ = run_step(scene.policy_objective(policy, Rho1Weighting(k_percent=1.0)), step, batches)
    assert kept["loss"] == pytest.approx(kept["loss_unweighted"])
    assert kept["weight_ess"] == 1.0


def test_validation_ranks_each_micro_batch_and_changes_nothing(scene: Scene) -> None:
    held_out = with_reference(micro_batches(scene, scene.plan(split="valid").step(0)))
    objective = scene.policy_objective(scene.policy(HEADS), Rho1Weighting(selection="step"))
    with torch.no_grad():
        first, second = objective.evaluate(held_out, ALONE), objective.evaluate(held_out, ALONE)
    assert first == second
    assert 0.6 <= float(first["weight_mean"]) < 0.64  # type: ignore[arg-type]


def test_a_micro_batch_without_targets_contributes_nothing_of_its_own(scene: Scene) -> None:
    """Two heads of which only the second counts, and samples too short for it beside others."""
    from wmtp_ray.config.weighting import UniformWeighting

    step, batches = step_of(scene, 2, 2)
    loss = LossConfig(chunk_size=64, normalization="microbatch", head_coefficients=(0.0, 0.0, 1.0))
    objective = scene.policy_objective(scene.policy(HEADS), UniformWeighting(), loss)
    objective.prepare(step, batches, ALONE)
    weights = objective._weights[0]
    assert objective._divisors(weights).isfinite().tolist() == [False, False, True]
    weights.sums = lambda: torch.zeros(2, HEADS, dtype=torch.float64)  # type: ignore[method-assign]
    assert objective._divisors(weights).isinf().all()
