"""Metrics of training in Ray's own metrics system, for Prometheus: one list of names, prefix `wmtp_train_`.

ray start --head --metrics-export-port=8080      # http://NODE:8080/metrics has ray_wmtp_train_loss{run="..."} and so on
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge

GAUGES = {
    "step": "Finished optimizer steps",
    "loss": "Loss of the last step, as it is minimised",
    "loss_unweighted": "The same with every weight 1",
    "pairwise_accuracy": "Critic: share of pairs whose correct side has the higher value",
    "margin": "Critic: mean value of correct minus incorrect solutions",
    "grad_norm": "Norm of the gradient before clipping",
    "learning_rate": "Learning rate of the model",
    "learning_rate_head": "Learning rate of the value head",
    "weight_mean": "Mean token weight",
    "weight_std": "Standard deviation of the token weights",
    "weight_min": "Smallest token weight",
    "weight_max": "Largest token weight",
    "weight_share_at_min": "Share of token weights at the lower clip bound",
    "weight_share_at_max": "Share of token weights at the upper clip bound",
    "weight_entropy": "Entropy of the token weights, normalised to at most 1",
    "weight_eos": "Mean weight of end-of-sequence tokens",
    "value_mean": "Mean value of response tokens: the frozen critic's, or those of the critic in training",
    "value_std": "Standard deviation of those values",
    "weight_ess": "Effective sample size of the token weights, as a share",
    "advantage_mean": "Mean advantage of the step",
    "advantage_std": "Standard deviation of the advantages of the step",
    "ema_mean": "Moving mean that whitens advantages",
    "ema_std": "Moving standard deviation that whitens advantages",
    "tokens_per_second": "Tokens without padding, per second",
    "padded_tokens_per_second": "Tokens with padding, per second",
    "padding_share": "Share of computed tokens that is padding",
    "score_wait_seconds": "Waiting for scores in the last step, of the worker that waited longest",
    "score_seconds": "Seconds that the frozen models computed for the last step's scores, all actors",
    "scores_ahead": "Calls to frozen models under way ahead of training, all workers",
    "cache_hit_rate": "Share of the last step's scores that the cache had",
    "workers": "Train workers",
    "peak_memory_bytes": "Peak resident memory of the largest worker",
    "peak_gpu_memory_bytes": "Peak allocated GPU memory of the largest worker",
    "val_loss": "Held-out loss",
    "val_loss_unweighted": "Held-out loss with every weight 1",
    "val_pairwise_accuracy": "Critic: held-out pairwise accuracy",
}
"""What each gauge is; it has the name of the value in `metrics.jsonl`, with the prefix."""

HEAD_GAUGES = {
    "loss_head": "Unweighted loss of each MTP head",
    "val_loss_head": "Held-out unweighted loss of each MTP head",
}
"""Values named `loss_head_1`, `loss_head_2`, ...: one gauge with the label `head`."""

COUNTERS = {
    "tokens": "Tokens trained on, without padding",
    "samples": "Samples trained on",
}
"""Counted up by each step's value of that name; Prometheus adds `_total`."""

PREFIX = "wmtp_train_"


class RayMetrics:
    """Sets the gauges and counters to what each record holds of them, labelled with the run. Implements `Tracker`."""

    def __init__(self, run: str) -> None:
        self._tags = {"run": run}
        self._gauges = {name: Gauge(PREFIX + name, text, ("run",)) for name, text in GAUGES.items()}
        labels = ("run", "head")
        self._heads = {name: Gauge(PREFIX + name, text, labels) for name, text in HEAD_GAUGES.items()}
        self._counters = {name: Counter(PREFIX + name, text, ("run",)) for name, text in COUNTERS.items()}

    def log(self, record: Mapping[str, Any]) -> None:
        for name in GAUGES.keys() & record.keys():
            self._gauges[name].set(record[name], self._tags)
        for name, value in record.items():
            of_head, _, head = name.rpartition("_")
            if of_head in HEAD_GAUGES:
                self._heads[of_head].set(value, self._tags | {"head": head})
        for name in COUNTERS.keys() & record.keys():
            self._counters[name].inc(record[name], self._tags)

    def close(self) -> None:
        """Ray keeps the last values for as long as the worker lives."""
