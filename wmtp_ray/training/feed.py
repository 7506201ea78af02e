"""Where a rank's micro-batches come from, and what it cost to get them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan


@dataclass(frozen=True)
class FeedUse:
    """What a rank's feed did since it was made. All 0 where nothing is scored."""

    wait_seconds: float = 0.0
    """Time spent waiting for scores."""
    score_seconds: float = 0.0
    """Time that the frozen models computed for the scores that came."""
    scored: int = 0
    """Samples whose scores were asked for and came."""
    cached: int = 0
    """Those of them that the cache had."""
    ahead: int = 0
    """Calls to frozen models under way at this moment."""


class Feed(Protocol):
    """A rank's micro-batches, step by step from `first_step` to the plan's end."""

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]: ...

    def use(self) -> FeedUse: ...
