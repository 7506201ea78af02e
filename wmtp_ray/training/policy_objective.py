"""The policy's objective: weighted multi-token prediction over a whole optimizer step.

    L = sum_k c_k (1/N_k) sum_t w CE(head_k at t, y_{t+k}) / sum_k c_k

N_k counts head k's valid targets over all micro-batches of the step, on all ranks. The order of a step is fixed:
scores are at hand -> sums of the signal are reduced -> EMA -> weights -> per-head sums are reduced -> first backward.
A method that selects by the policy's own losses chooses between a head's forward and its backward instead; how many
targets it will keep is known before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from wmtp_ray.config.weighting import LossConfig, WeightingBase
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.errors import DataError
from wmtp_ray.losses import ChunkedLoss, chunked_mtp_loss, head_normalizers
from wmtp_ray.models.backbone import Geometry
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.head_weights import HeadWeights
from wmtp_ray.training.held_out import HeldOutPair
from wmtp_ray.training.objective import Metrics
from wmtp_ray.training.weight_report import WeightReport
from wmtp_ray.value_weighting import AdvantageSums, mean_one_scales
from wmtp_ray.value_weighting.methods import LossSelection, WeightingMethod


class WeightedMTPObjective:
    """Weighted MTP training of a policy. Implements `Objective`."""

    held_out_pairs: Sequence[HeldOutPair] = ()

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
        self.needs = method.needs
        self._weighting = weighting
        self._loss = loss
        self._eos = eos_token_id
        self._detach = detach_extra_heads
        self._head_warmup_steps = head_warmup_steps
        self._device = device
        self._heads = range(1, model.num_heads + 1)
        self._weights: dict[int, HeadWeights] = {}

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None:
        """Weights of the whole step, and what every micro-batch's loss is divided by."""
        if self._head_warmup_steps:
            self.model.set_trunk_trainable(step.number >= self._head_warmup_steps)
        self._report = WeightReport(self.method.bounds)
        self._sums_23 = collective.sum(self._sums(mine))
        self._forward_tokens = 0
        self._weights = self._weigh_step(mine, collective)
        heads_2K = sum((self._weights[m.number].sums() for m in mine), self._zeros().T.contiguous())
        weight_K, self._count_K = collective.sum(heads_2K)
        planned = [step.head_targets(k, self._weighting.alignment) for k in self._heads]
        if self._count_K.tolist() != planned:
            raise AssertionError(
                f"the batches have {self._count_K.tolist()} targets per head, the plan {planned}"
            )
        try:
            divisor_K = head_normalizers(self._count_K, self._loss.head_coefficients)
        except DataError as error:
            rows = [row for micro_batch in step.micro_batches for row in micro_batch.rows]
            raise DataError(f"{error}; the samples of step {step.number} are {rows}") from None
        mean_one = self._weighting.normalize == "mean_one"
        self._scale_K = mean_one_scales(weight_K, self._count_K) if mean_one else torch.ones_like(weight_K)
        self._divisor_K = divisor_K / self._scale_K
        self._num_micro_batches = self._with_targets(step)
        self._losses_K2 = self._zeros()

    def backward(self, micro_batch: MicroBatch) -> None:
        """Trunk once; each head forward and backward in turn, so that one head's activations live at a time; then the
        trunk's backward with the gradient that the heads left at its output."""
        weights = self._weights[micro_batch.number]
        hidden_RTD, geometry = self.model.trunk(micro_batch.batch.to(self._device))
        unembedding_VD = self.model.unembedding
        leaf_RTD = hidden_RTD.detach().requires_grad_(hidden_RTD.requires_grad)
        divisor_K = self._divisors(weights)
        for k in self._heads:
            below_RTD = leaf_RTD.detach() if self._detach and k > 1 else leaf_RTD
            divisor = divisor_K[k - 1].item()
            loss = self._head_loss(k, below_RTD, geometry, unembedding_VD, weights, divisor)
            if loss.loss.requires_grad:
                loss.loss.backward()
            self._losses_K2[k - 1] += _both_sums(loss, divisor)
        if leaf_RTD.grad is not None:
            hidden_RTD.backward(leaf_RTD.grad)
        weights.report_to(self._report)

    def metrics(self, collective: Collective) -> Metrics:
        loss_K, unweighted_K = collective.sum(self._losses_K2).unbind(dim=1)
        metrics = self._metrics(
            loss_K.sum().item(), unweighted_K, self._count_K, self._report, self._sums_23, collective
        )
        if isinstance(self.method, LossSelection) and self.method.over_step:
            metrics["extra_forward_tokens"] = collective.sum(
                torch.tensor(self._forward_tokens, dtype=torch.float64)
            ).item()
        return metrics

    def evaluate(self, micro_batches: Iterable[MicroBatch], collective: Collective) -> Metrics:
        """Weighted with the statistics of training; before the first step, by 1. Under `mean_one` each head's weights
        are divided by their mean over the held-out targets, so that `loss` compares with the training curve."""
        losses_K2, heads_2K = self._zeros(), self._zeros().T.contiguous()
        report, sums_23 = WeightReport(self.method.bounds), self._sums([])
        for micro_batch in micro_batches:
            sums_23 += self._sums([micro_batch])
            weights = self._head_weights(micro_batch)
            hidden_RTD, geometry = self.model.trunk(micro_batch.batch.to(self._device))
            unembedding_VD = self.model.unembedding
            for k in self._heads:
                loss = self._head_loss(k, hidden_RTD, geometry, unembedding_VD, weights, 1.0)
                losses_K2[k - 1] += _both_sums(loss, 1.0)
            heads_2K += weights.sums()
            weights.report_to(report)
        weight_K, count_K = collective.sum(heads_2K)
        weighted_K, unweighted_K = collective.sum(losses_K2).unbind(dim=1)
        if self._weighting.normalize == "mean_one":
            weighted_K = weighted_K * mean_one_scales(weight_K, count_K)
        loss = (weighted_K / head_normalizers(count_K, self._loss.head_coefficients)).sum().item()
        return self._metrics(loss, unweighted_K, count_K, report, collective.sum(sums_23), collective)

    def state_dict(self) -> dict[str, Any]:
        return self.method.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state)

    def token_weights(self, micro_batch: MicroBatch) -> Tensor:
        """Weights [R, T] (or [R, T, K]) with the statistics as they stand, for a report."""
        return self._head_weights(micro_batch).of_tokens

    def _weigh_step(self, mine: Sequence[MicroBatch], collective: Collective) -> dict[int, HeadWeights]:
        if not isinstance(self.method, LossSelection):
            weights = self.method.step(mine, collective.sum)
            return {m.number: self._head_weights(m, w) for m, w in zip(mine, weights, strict=True)}
        chosen = {m.number: self._head_weights(m) for m in mine}
        if self.method.over_step:
            losses = [self._policy_losses(m, chosen[m.number]) for m in mine]
            for k in self._heads:
                candidates = [chosen[m.number].candidates(k) for m in mine]
                of_head = [by_head[k - 1] for by_head in losses]
                selected = self.method.select_step(k, of_head, candidates, mine, collective.gather)
                for m, weights_RT in zip(mine, selected, strict=True):
                    chosen[m.number].settle(k, weights_RT)
        return chosen

    def _head_weights(self, micro_batch: MicroBatch, weights: Tensor | None = None) -> HeadWeights:
        if weights is None and not isinstance(self.method, LossSelection):
            weights = self.method.weigh(micro_batch)
        return HeadWeights(micro_batch, weights, self.method, self._weighting, len(self._heads), self._eos)

    @torch.no_grad()
    def _policy_losses(self, micro_batch: MicroBatch, weights: HeadWeights) -> list[Tensor]:
        """The policy's losses [R, T] by head, in a forward of their own, without dropout."""
        self._forward_tokens += micro_batch.planned.num_tokens
        self.model.eval()
        hidden_RTD, geometry = self.model.trunk(micro_batch.batch.to(self._device))
        unembedding_VD = self.model.unembedding
        losses = [
            chunked_mtp_loss(
                self.model.head(k, hidden_RTD, geometry),
                unembedding_VD,
                weights.targets(k).to(self._device),
                normalizer=1.0,
                chunk_size=self._loss.chunk_size,
            ).ce_BT
            for k in self._heads
        ]
        self.model.train()
        return losses

    def _head_loss(
        self,
        k: int,
        below_RTD: Tensor,
        geometry: Geometry,
        unembedding_VD: Tensor,
        weights: HeadWeights,
        divisor: float,
    ) -> ChunkedLoss:
        return chunked_mtp_loss(
            self.model.head(k, below_RTD, geometry),
            unembedding_VD,
            weights.targets(k).to(self._device),
            weights.of_head(k, self._device),
            normalizer=divisor,
            chunk_size=self._loss.chunk_size,
        )

    def _divisors(self, weights: HeadWeights) -> Tensor:
        """What each head's weighted sum is divided by in this micro-batch, [K] float64."""
        if self._loss.normalization == "step":
            return self._divisor_K
        own_K = weights.sums()[1]
        if not self._counts(own_K.tolist()):
            return torch.full_like(own_K, torch.inf)
        return head_normalizers(own_K * self._num_micro_batches, self._loss.head_coefficients) / self._scale_K

    def _with_targets(self, step: PlannedStep) -> int:
        """The micro-batches of a step that have a target for any head that counts."""
        targets = (
            [m.head_targets(k, self._weighting.alignment) for k in self._heads] for m in step.micro_batches
        )
        return sum(map(self._counts, targets))

    def _counts(self, targets_K: Sequence[float]) -> bool:
        coefficients = self._loss.head_coefficients or [1.0] * len(targets_K)
        return any(n > 0 and c > 0 for n, c in zip(targets_K, coefficients, strict=True))

    def _sums(self, micro_batches: Iterable[MicroBatch]) -> Tensor:
        """[2, 3] float64: sum, sum of squares and number of advantages, and of the critic's values."""
        sums_23 = torch.zeros(2, 3, dtype=torch.float64)
        for m in micro_batches:
            for of, numbers_RT in enumerate((self.method.signal(m), m.values_RT)):
                if numbers_RT is not None:
                    sums_23[of] += AdvantageSums.of(numbers_RT, m.batch.response_mask).as_tensor()
        return sums_23

    def _zeros(self) -> Tensor:
        return torch.zeros(self.model.num_heads, 2, dtype=torch.float64)

    def _metrics(
        self,
        loss: float,
        unweighted_K: Tensor,
        count_K: Tensor,
        report: WeightReport,
        sums_23: Tensor,
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
        for name, sums in zip(("advantage", "value"), map(AdvantageSums.from_tensor, sums_23), strict=True):
            if sums.count:
                metrics |= {f"{name}_mean": sums.mean, f"{name}_std": sums.std}
        return metrics | self.method.statistics()


def _both_sums(loss: ChunkedLoss, divisor: float) -> Tensor:
    """[2] float64: the loss as it is minimised, and the unweighted sum of cross-entropies."""
    return torch.stack([loss.weighted_sum / divisor, loss.unweighted_sum]).double().cpu()
