"""One step of the weighted MTP objective against its plain definition, and what it must not depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.policy_steps import assert_same_gradients, run_step, take_gradients
from tests.training.runs import assert_same_metrics
from tests.training.scenes import Scene, Values, micro_batches, sample_alone
from wmtp_ray.config.weighting import CriticWeighting, LossConfig, UniformWeighting, WeightingBase
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.losses import compute_mtp_ce_loss, mtp_targets
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.value_weighting import compute_gae_advantage


def padded(batches: list[MicroBatch]) -> tuple[PackedBatch, Tensor]:
    """All samples of a step one to a row, padded on the right; and the critic's values on the same rows."""
    rows: list[tuple[PackedBatch, Tensor]] = []
    for m in batches:
        assert m.values_RT is not None
        flat = m.values_RT.flatten()
        for sample, alone in sample_alone(m.batch).items():
            row, segment = place_of(m.batch, sample)
            where = (m.batch.segment_ids == segment) & (torch.arange(m.batch.shape[0])[:, None] == row)
            rows.append((alone, flat[where.flatten()]))
    width = max(alone.shape[1] for alone, _ in rows)

    def fill(tensors: list[Tensor], value: float) -> Tensor:
        out = tensors[0].new_full((len(tensors), width), value)
        for row, tensor in zip(out, tensors, strict=True):
            row[: tensor.numel()] = tensor.flatten()
        return out

    batch = PackedBatch(
        input_ids=fill([b.input_ids for b, _ in rows], 0),
        position_ids=torch.arange(width).expand(len(rows), width).contiguous(),
        segment_ids=fill([b.segment_ids for b, _ in rows], -1),
        labels=fill([b.labels for b, _ in rows], -100),
        sample_ids=torch.cat([b.sample_ids for b, _ in rows]),
    )
    return batch, fill([v for _, v in rows], 0.0)


def place_of(batch: PackedBatch, sample: int) -> tuple[int, int]:
    """Packed row and segment of a sample."""
    places = [(r, s) for r in range(batch.shape[0]) for s in range(int(batch.segment_ids[r].max()) + 1)]
    return places[batch.sample_ids.tolist().index(sample)]


def plain_weights(
    batch: PackedBatch, values_BT: Tensor, weighting: WeightingBase, num_heads: int, eos: int
) -> Tensor:
    """[B, T, K] weights at the position that predicts, written out once more."""
    mask_BT = batch.labels != -100
    weights_BT = mask_BT.double()
    if isinstance(weighting, CriticWeighting):
        advantages_BT = compute_gae_advantage(
            values_BT, None, mask_BT, lam=weighting.lam, first_token=weighting.first_token or "zero"
        ).double()
        kept = advantages_BT[mask_BT]
        whitened_BT = (advantages_BT - kept.mean()) / (kept.std(correction=0) + 1e-8)
        weights_BT = (whitened_BT / weighting.beta).exp().clip(weighting.min_weight, weighting.max_weight)
        weights_BT = weights_BT * mask_BT
    heads = []
    for k in range(1, num_heads + 1):
        ahead = k if weighting.alignment == "target" else 1
        head_BT = torch.zeros_like(weights_BT)
        head_BT[:, :-ahead] = weights_BT[:, ahead:]
        targets_BT = mtp_targets(batch.labels, None, k, weighting.alignment)
        valid_BT = targets_BT != -100
        head_BT *= valid_BT
        if weighting.eos_weight == "one":
            head_BT[targets_BT == eos] = 1.0
        if weighting.normalize == "mean_one":
            head_BT *= valid_BT.sum() / head_BT.sum()
        heads.append(head_BT)
    return torch.stack(heads, dim=-1).float()


CASES: dict[str, tuple[WeightingBase, dict[str, Any], int]] = {
    "seed": (CriticWeighting(), {}, 3),
    "comparison": (CriticWeighting(normalize="mean_one", eos_weight="one"), {}, 3),
    "state": (CriticWeighting(alignment="state", normalize="mean_one", beta=0.5), {}, 3),
    "state, without EOS": (CriticWeighting(alignment="state", eos_weight="one"), {}, 3),
    "coefficients": (CriticWeighting(eos_weight="one"), {"head_coefficients": (1.0, 0.5, 0.0)}, 3),
    "from the prompt": (CriticWeighting(first_token="prompt_value", lam=1.0), {}, 2),
    "next token": (CriticWeighting(normalize="mean_one"), {}, 1),
    "uniform": (UniformWeighting(), {}, 3),
    "uniform state": (UniformWeighting(alignment="state", normalize="mean_one", eos_weight="one"), {}, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_plain_definition(scene: Scene, values: Values, case: str) -> None:
    weighting, loss, heads = CASES[case]
    step = scene.plan(samples=6, samples_per_micro_batch=3).step(0)
    batches = micro_batches(scene, step, values)
    policy = scene.policy(heads)
    metrics, gradients = run_step(
        scene.policy_objective(policy, weighting, LossConfig(chunk_size=64, **loss)), step, batches
    )

    batch, values_BT = padded(batches)
    weights_BTK = plain_weights(batch, values_BT, weighting, heads, eos_id(scene.tokenizer))
    plain = compute_mtp_ce_loss(
        policy(batch), batch.labels, batch.segment_ids >= 0, weights_BTK, weighting.alignment, **loss
    )
    plain.weighted.backward()
    assert metrics["loss"] == pytest.approx(plain.weighted.item(), rel=1e-5)
    assert metrics["loss_unweighted"] == pytest.approx(plain.unweighted.item(), rel=1e-5)
    for k in range(heads):
        assert metrics[f"loss_head_{k + 1}"] == pytest.approx(plain.unweighted_K[k].item(), rel=1e-5)
    assert_same_gradients(gradients, take_gradients(policy), 3e-5)


CUTS = [(1, 4), (2, 2), (4, 1)]


@pytest.mark.parametrize(
    "weighting",
    [CriticWeighting(normalize="mean_one", eos_weight="one"), CriticWeighting(alignment="state")],
)
def test_the_cut_into_micro_batches_changes_nothing(
    scene: Scene, values: Values, weighting: CriticWeighting
) -> None:
    policy = scene.policy()
    results = []
    for count, size in CUTS:
        step = scene.plan(micro_batches_per_step=count, samples_per_micro_batch=size).step(0)
        assert len(step.micro_batches) == count
        batches = micro_batches(scene, step, values)
        results.append(run_step(scene.policy_objective(policy, weighting), step, batches))
    samples = [
        {
            s
            for m in scene.plan(micro_batches_per_step=c, samples_per_micro_batch=n).step(0).micro_batches
            for s in m.rows
        }
        for c, n in CUTS
    ]
    assert samples[0] == samples[1] == samples[2]
    for metrics, gradients in results[1:]:
        assert_same_metrics(metrics, results[0][0])
        assert_same_gradients(gradients, results[0][1])


def test_microbatch_normalization_is_the_mean_of_each_ones_own_loss(scene: Scene, values: Values) -> None:
    step = scene.plan(samples=5, samples_per_micro_batch=3).step(0)
    batches = micro_batches(scene, step, values)
    policy = scene.policy()
    loss = LossConfig(chunk_size=64, normalization="microbatch", head_coefficients=(1.0, 0.5, 0.25))
    metrics, gradients = run_step(scene.policy_objective(policy, UniformWeighting(), loss), step, batches)
    total = torch.zeros(())
    for m in batches:
        batch = padded([m])[0]
        each = compute_mtp_ce_loss(
            policy(batch), batch.labels, None, head_coefficients=loss.head_coefficients
        ).weighted
        total = total + each / len(batches)
    total.backward()
    assert_same_gradients(gradients, take_gradients(policy), 3e-5)
    assert metrics["loss"] == pytest.approx(total.item(), rel=1e-5)


def test_mean_one_only_scales_each_head(scene: Scene, values: Values) -> None:
    """The gradient of a single head is that of `none` times N/Σ."""
    step = scene.plan().step(0)
    batches = micro_batches(scene, step, values)
    policy = scene.policy(1)
    plain, gradients = run_step(scene.policy_objective(policy, CriticWeighting()), step, batches)
    scaled, scaled_gradients = run_step(
        scene.policy_objective(policy, CriticWeighting(normalize="mean_one")), step, batches
    )
    mean = plain["weight_mean"]
    assert isinstance(mean, float) and mean > 1.05
    assert scaled["weight_mean"] == mean  # weights are logged as they are before mean_one
    assert scaled["loss"] == pytest.approx(plain["loss"] / mean, rel=1e-6)  # type: ignore[operator]
    assert_same_gradients(scaled_gradients, {name: g / mean for name, g in gradients.items()})


def test_mean_one_with_uniform_weights_changes_nothing(scene: Scene) -> None:
    step = scene.plan().step(0)
    batches = micro_batches(scene, step)
    policy = scene.policy()
    plain = run_step(scene.policy_objective(policy, UniformWeighting()), step, batches)
    scaled = run_step(scene.policy_objective(policy, UniformWeighting(normalize="mean_one")), step, batches)
    assert scaled[0] == plain[0]
    assert_same_gradients(scaled[1], plain[1], 0.0)
    assert plain[0]["loss"] == pytest.approx(plain[0]["loss_unweighted"])


def test_eos_weight_one(scene: Scene, values: Values) -> None:
    step = scene.plan().step(0)
    batches = micro_batches(scene, step, values)
    objectives = [scene.policy_objective(weighting=CriticWeighting(eos_weight=w)) for w in ("method", "one")]
    metrics = [run_step(objective, step, batches)[0] for objective in objectives]
    assert metrics[0]["weight_eos"] != pytest.approx(1.0, abs=0.01)
    assert metrics[1]["weight_eos"] == 1.0
    for m in batches:
        method, one = (o.token_weights(m) for o in objectives)
        is_eos = m.batch.labels == eos_id(scene.tokenizer)
        assert is_eos.any()
        assert torch.equal(one[is_eos], torch.ones_like(one[is_eos]))
        assert torch.equal(one[~is_eos], method[~is_eos])


def test_heads_from_the_second_leave_the_trunk_alone_when_detached(scene: Scene) -> None:
    step = scene.plan().step(0)
    batches = micro_batches(scene, step)
    far = LossConfig(chunk_size=64, head_coefficients=(0.0, 1.0, 1.0))
    next_only = LossConfig(chunk_size=64, head_coefficients=(1.0, 0.0, 0.0))

    def trunk_and_heads(loss: LossConfig, detached: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        policy = scene.policy()
        objective = scene.policy_objective(policy, UniformWeighting(), loss, detached=detached)
        _, gradients = run_step(objective, step, batches)
        trunk = {name: g for name, g in gradients.items() if policy._in_trunk(name)}
        return trunk, {name: g for name, g in gradients.items() if name not in trunk}

    joint_trunk, joint_heads = trunk_and_heads(far, detached=False)
    trunk, heads = trunk_and_heads(far, detached=True)
    assert trunk and not any(g.any() for g in trunk.values())
    assert any(g.any() for g in joint_trunk.values())
    assert_same_gradients(heads, joint_heads, 0.0)
    assert any(g.any() for name, g in heads.items() if name.startswith("extra_heads."))
    # The first head's gradient into the trunk stays.
    assert_same_gradients(trunk_and_heads(next_only, True)[0], trunk_and_heads(next_only, False)[0], 0.0)


def test_a_trunk_without_adapters_needs_no_backward(scene: Scene, values: Values) -> None:
    step = scene.plan().step(0)
    batches = micro_batches(scene, step, values)
    policy = scene.policy()
    _, every = run_step(scene.policy_objective(policy), step, batches)
    policy.set_trunk_trainable(False)
    _, some = run_step(scene.policy_objective(policy), step, batches)
    heads = {name: g for name, g in every.items() if not policy._in_trunk(name)}
    assert_same_gradients({name: some[name] for name in heads}, heads)
    assert not any(g.any() for name, g in some.items() if policy._in_trunk(name))


def test_the_trunk_waits_while_the_heads_warm_up(scene: Scene, values: Values) -> None:
    plan = scene.plan(samples=8)
    policy = scene.policy()
    objective = scene.policy_objective(policy, UniformWeighting(), head_warmup_steps=1)
    for step in (plan.step(0), plan.step(1)):
        _, gradients = run_step(objective, step, micro_batches(scene, step))
        moved = {policy._in_trunk(name) for name, gradient in gradients.items() if gradient.any()}
        assert moved == ({False} if step.number == 0 else {False, True})


def test_full_finetuning_with_tied_embeddings(scene: Scene, values: Values) -> None:
    """The unembedding collects gradients from every head, and from the embedding below the trunk."""
    step = scene.plan(samples=2, samples_per_micro_batch=1).step(0)
    batches = micro_batches(scene, step, values)
    policy = MTPPolicy.from_pretrained(scene.model, 2)
    metrics, gradients = run_step(scene.policy_objective(policy, CriticWeighting()), step, batches)
    batch, values_BT = padded(batches)
    weights_BTK = plain_weights(batch, values_BT, CriticWeighting(), 2, eos_id(scene.tokenizer))
    plain = compute_mtp_ce_loss(policy(batch), batch.labels, batch.segment_ids >= 0, weights_BTK)
    plain.weighted.backward()
    assert metrics["loss"] == pytest.approx(plain.weighted.item(), rel=1e-5)
    assert_same_gradients(gradients, take_gradients(policy), 3e-5)


def test_full_finetuning_in_bfloat16_has_the_gradients_of_float32(scene: Scene, values: Values) -> None:
    step = scene.plan(samples=2, samples_per_micro_batch=1).step(0)
    batches = micro_batches(scene, step, values)
    exact, mixed = (
        run_step(
            scene.policy_objective(MTPPolicy.from_pretrained(scene.model, 3, dtype=dtype)), step, batches
        )[1]
        for dtype in ("float32", "bfloat16")
    )
    for name, gradient in exact.items():
        assert mixed[name].dtype == torch.float32
        assert torch.cosine_similarity(mixed[name].flatten(), gradient.flatten(), dim=0) > 0.98, name
