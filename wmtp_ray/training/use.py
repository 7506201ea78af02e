"""What an optimizer step cost: time, tokens, waiting, memory. Each rank counts its own, then they are put together."""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.errors import DataError
from wmtp_ray.training.feed import FeedUse


@dataclass(frozen=True)
class RankUse:
    """One rank's part of a step."""

    rows: tuple[int, ...]
    """Store rows that it trained on."""
    feed: FeedUse
    """What its feed did for this step."""
    memory: int
    """Peak resident bytes of the process so far."""
    gpu_memory: int
    """Peak bytes allocated on its GPU so far; 0 without one."""
    stop: bool
    """Whether it has seen the request to stop."""

    @classmethod
    def of(cls, mine: Sequence[MicroBatch], before: FeedUse, after: FeedUse, stop: bool) -> RankUse:
        """The use of one rank, from the feed's counters before and after the step's share was fetched."""
        return cls(
            rows=tuple(row for m in mine for row in m.batch.sample_ids.tolist()),
            feed=FeedUse(
                wait_seconds=after.wait_seconds - before.wait_seconds,
                score_seconds=after.score_seconds - before.score_seconds,
                scored=after.scored - before.scored,
                cached=after.cached - before.cached,
                ahead=after.ahead,
            ),
            memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            gpu_memory=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
            stop=stop,
        )


@dataclass(frozen=True)
class StepUse:
    """A step's use over all ranks."""

    ranks: Sequence[RankUse]
    samples: int
    tokens: int
    """Without padding."""
    padded_tokens: int

    @classmethod
    def of(cls, ranks: Sequence[RankUse], step: PlannedStep) -> StepUse:
        """Put the ranks together. `DataError` where they did not train on exactly the planned rows, each once."""
        used = sorted(row for rank in ranks for row in rank.rows)
        planned = sorted(row for m in step.micro_batches for row in m.rows)
        if used != planned:
            raise DataError(f"step {step.number} was planned on the rows {planned} and trained on {used}")
        padded = sum(math.prod(m.shape) for m in step.micro_batches)
        return cls(ranks, len(planned), step.tokens, padded)

    @property
    def stop(self) -> bool:
        """Whether any rank was asked to stop: all then do after the same step."""
        return any(rank.stop for rank in self.ranks)

    def metrics(self, seconds: float) -> dict[str, float]:
        """What `metrics.jsonl` says of it; waiting and memory are those of the rank that has most."""
        scored = sum(rank.feed.scored for rank in self.ranks)
        use: dict[str, float] = {
            "samples": self.samples,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens / seconds,
            "padded_tokens_per_second": self.padded_tokens / seconds,
            "padding_share": 1 - self.tokens / self.padded_tokens,
            "seconds": seconds,
            "workers": len(self.ranks),
            "score_wait_seconds": max(rank.feed.wait_seconds for rank in self.ranks),
            "scores_ahead": sum(rank.feed.ahead for rank in self.ranks),
            "peak_memory_bytes": max(rank.memory for rank in self.ranks),
        }
        if scored:
            use["cache_hit_rate"] = sum(rank.feed.cached for rank in self.ranks) / scored
            use["score_seconds"] = sum(rank.feed.score_seconds for rank in self.ranks)
        if gpu_memory := max(rank.gpu_memory for rank in self.ranks):
            use["peak_gpu_memory_bytes"] = gpu_memory
        return use
