"""The policy's objective: weighted multi-token prediction over a whole optimizer step.

    L = sum_k c_k (1/N_k) sum_t w CE(head_k at t, y_{t+k}) / sum_k c_k

N_k counts head k's valid targets over all micro-batches of the step, on all ranks. The order of a step is fixed:
scores are at hand -> sums of the signal are reduced -> EMA -> weights -> per-head sums are reduced -> first backward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from wmtp_ray.config.weighting import LossConfig, WeightingBase
from wmtp_ray.data.batch import IGNORED_LABEL, PackedBatch
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.losses import ChunkedLoss, align_weights, chunked_mtp_loss, head_normalizers, mtp_targets
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.training.batch import MicroBatch
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.objective import Metrics
from wmtp_ray.training.weight_report import WeightReport
from wmtp_ray.value_weighting import AdvantageSums, mean_one_scales, with_eos_weight_one
from wmtp_ray.value_weighting.methods import WeightingMethod


class WeightedMTPObjective:
    """Weighted MTP training of a policy. Implements `Objective`."""

    def __init__(
        self,
        model: MTPPolicy,
        method: WeightingMethod,
        weighting: WeightingBase,
        loss: LossConfig,
        *,
        eos_token_id: int,
        detach_extra_heads: bool,
        head_warmup_steps: int = 0,
        device: torch.device,
    ) -> None:
        self.model = model
        self.method = method
        self.needs_values = method.needs_values
        self._weighting = weighting
        self._loss = loss
        self._eos = eos_token_id
        self._detach = detach_extra_heads
        self._head_warmup_steps = head_warmup_steps
        self._device = device
        self._heads = range(1, model.num_heads + 1)
        self._weights: dict[int, Tensor] = {}

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None:
        """Weights of the whole step, and what every micro-batch's loss is divided by."""
        if self._head_warmup_steps:
            self.model.set_trunk_trainable(step.number >= self._head_warmup_steps)
        signals = {m.number: self.method.signal(m.batch, m.values_RT) for m in mine}
        own_sums = sum((_sums_of(signals[m.number], m.batch) for m in mine), AdvantageSums())
        self._signal_sums = AdvantageSums.from_tensor(collective.sum(own_sums.as_tensor()))
        if self.method.ema is not None:
            self.method.ema.update_from_sums(self._signal_sums)
        self._weights = {m.number: self.weigh(m.batch, signals[m.number]) for m in mine}
        self._report = WeightReport(self._weighting, self._eos)
        for m in mine:
            self._report.add(self._weights[m.number], m.batch)
        weight_K, self._count_K = self._reduce_heads(mine, collective)
        planned = [step.head_targets(k, self._weighting.alignment) for k in self._heads]
        if self._count_K.tolist() != planned:
            raise AssertionError(
                f"the batches have {self._count_K.tolist()} targets per head, the plan {planned}"
            )
        mean_one = self._weighting.normalize == "mean_one"
        self._scale_K = mean_one_scales(weight_K, self._count_K) if mean_one else torch.ones_like(weight_K)
        self._divisor_K = head_normalizers(self._count_K, self._loss.head_coefficients) / self._scale_K
        self._num_micro_batches = len(step.micro_batches)
        self._losses_K2 = self._zeros()

    def backward(self, micro_batch: MicroBatch) -> None:
        """Trunk once; each head forward and backward in turn, so that one head's activations live at a time; then the
        trunk's backward with the gradient that the heads left at its output."""
        batch = micro_batch.batch.to(self._device)
        hidden_RTD = self.model.trunk(batch)
        leaf_RTD = hidden_RTD.detach().requires_grad_(hidden_RTD.requires_grad)
        weights_RT = self._weights[micro_batch.number]
        divisor_K = self._divisors(micro_batch)
        for k in self._heads:
            below_RTD = leaf_RTD.detach() if self._detach and k > 1 else leaf_RTD
            divisor = divisor_K[k - 1].item()
            loss = self._head_loss(k, below_RTD, batch, weights_RT, divisor)
            if loss.loss.requires_grad:
                loss.loss.backward()
            self._losses_K2[k - 1] += _both_sums(loss, divisor)
        if leaf_RTD.grad is not None:
            hidden_RTD.backward(leaf_RTD.grad)

    def metrics(self, collective: Collective) -> Metrics:
        loss_K, unweighted_K = collective.sum(self._losses_K2).unbind(dim=1)
        return self._metrics(
            loss_K.sum().item(), unweighted_K, self._count_K, self._report, self._signal_sums, collective
        )

    def evaluate(self, micro_batches: Iterable[MicroBatch], collective: Collective) -> Metrics:
        """Weighted by the training EMA; before the first update, by 1. `normalize` has no part in it."""
        losses_K2, heads_2K = self._zeros(), self._zeros().T.contiguous()
        report, signal_sums = WeightReport(self._weighting, self._eos), AdvantageSums()
        for micro_batch in micro_batches:
            batch = micro_batch.batch
            signal_RT = self.method.signal(batch, micro_batch.values_RT)
            signal_sums += _sums_of(signal_RT, batch)
            untrained = self.method.ema is not None and self.method.ema.updates == 0
            weights_RT = batch.response_mask.float() if untrained else self.weigh(batch, signal_RT)
            report.add(weights_RT, batch)
            heads_2K += self._head_sums(batch, weights_RT)
            on_device = batch.to(self._device)
            hidden_RTD = self.model.trunk(on_device)
            for k in self._heads:
                loss = self._head_loss(k, hidden_RTD, on_device, weights_RT, 1.0)
                losses_K2[k - 1] += _both_sums(loss, 1.0)
        _, count_K = collective.sum(heads_2K)
        weighted_K, unweighted_K = collective.sum(losses_K2).unbind(dim=1)
        loss = (weighted_K / head_normalizers(count_K, self._loss.head_coefficients)).sum().item()
        signal_sums = AdvantageSums.from_tensor(collective.sum(signal_sums.as_tensor()))
        return self._metrics(loss, unweighted_K, count_K, report, signal_sums, collective)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.method.ema is None else {"ema": self.method.ema.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.method.ema is not None:
            self.method.ema.load_state_dict(state["ema"])

    def weigh(self, batch: PackedBatch, signal_RT: Tensor | None) -> Tensor:
        """Token weights [R, T] (or [R, T, K]) with the statistics as they stand."""
        weights_RT = self.method.weights(batch, signal_RT)
        one = self._weighting.eos_weight == "one"
        return with_eos_weight_one(weights_RT, batch.labels, self._eos) if one else weights_RT

    def _targets(self, batch: PackedBatch, k: int) -> Tensor:
        return mtp_targets(batch.labels, batch.segment_ids, k, self._weighting.alignment)

    def _aligned_weights(self, batch: PackedBatch, weights_RT: Tensor, k: int) -> Tensor:
        return align_weights(weights_RT, k, self._weighting.alignment, batch.segment_ids, batch.labels)

    def _head_loss(
        self, k: int, below_RTD: Tensor, on_device: PackedBatch, weights_RT: Tensor, divisor: float
    ) -> ChunkedLoss:
        return chunked_mtp_loss(
            self.model.head(k, below_RTD, on_device),
            self.model.unembedding,
            self._targets(on_device, k),
            self._aligned_weights(on_device, weights_RT.to(self._device), k),
            normalizer=divisor,
            chunk_size=self._loss.chunk_size,
        )

    def _head_sums(self, batch: PackedBatch, weights_RT: Tensor) -> Tensor:
        """[2, K] float64 of one micro-batch: sum of weights, number of valid targets."""
        weights = [self._aligned_weights(batch, weights_RT, k).double().sum() for k in self._heads]
        counts = [(self._targets(batch, k) != IGNORED_LABEL).double().sum() for k in self._heads]
        return torch.stack([torch.stack(weights), torch.stack(counts)])

    def _reduce_heads(self, mine: Sequence[MicroBatch], collective: Collective) -> tuple[Tensor, Tensor]:
        sums = (self._head_sums(m.batch, self._weights[m.number]) for m in mine)
        weight_K, count_K = collective.sum(sum(sums, self._zeros().T.contiguous()))
        return weight_K, count_K

    def _divisors(self, micro_batch: MicroBatch) -> Tensor:
        """What each head's weighted sum is divided by in this micro-batch, [K] float64."""
        if self._loss.normalization == "step":
            return self._divisor_K
        _, own_K = self._head_sums(micro_batch.batch, self._weights[micro_batch.number])
        return head_normalizers(own_K * self._num_micro_batches, self._loss.head_coefficients) / self._scale_K

    def _zeros(self) -> Tensor:
        return torch.zeros(self.model.num_heads, 2, dtype=torch.float64)

    def _metrics(
        self,
        loss: float,
        unweighted_K: Tensor,
        count_K: Tensor,
        report: WeightReport,
        signal_sums: AdvantageSums,
        collective: Collective,
    ) -> Metrics:
        divisor_K = head_normalizers(count_K, self._loss.head_coefficients)
        per_head_K = unweighted_K / count_K
        metrics: Metrics = {
            "loss": loss,
            "loss_unweighted": (unweighted_K / divisor_K).sum().item(),
            **{f"loss_head_{k}": per_head_K[k - 1].item() for k in self._heads if count_K[k - 1] > 0},
            **report.metrics(collective),
        }
        if signal_sums.count:
            metrics |= {"advantage_mean": signal_sums.mean, "advantage_std": signal_sums.std}
        if self.method.ema is not None and self.method.ema.updates:
            metrics |= {"ema_mean": self.method.ema.mean, "ema_std": self.method.ema.std}
        return metrics


def _sums_of(signal_RT: Tensor | None, batch: PackedBatch) -> AdvantageSums:
    return AdvantageSums() if signal_RT is None else AdvantageSums.of(signal_RT, batch.response_mask)


def _both_sums(loss: ChunkedLoss, divisor: float) -> Tensor:
    """[2] float64: the loss as it is minimised, and the unweighted sum of cross-entropies."""
    return torch.stack([loss.weighted_sum / divisor, loss.unweighted_sum]).double().cpu()
