"""What a run did when: busy shares over time, from its timeline and the times of its steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from wmtp_ray.storage.timeline import Span

BINS = 200
OTHER = "starting and other"
ORDER = (
    "training",
    "waiting for scores",
    "scoring",
    "sampling",
    "verifying",
    "validation",
    "checkpoint",
    OTHER,
)
"""Rows from the top; others come before the last."""


@dataclass(frozen=True)
class Activities:
    """Busy shares of each activity in equal bins of the time that the run was at work."""

    edges: np.ndarray
    """[bins + 1] seconds at work since the run began; time between attempts does not count."""
    busy: dict[str, np.ndarray]
    """[bins] by activity: 1 where one thing was at it all the time, more where several were."""

    @property
    def seconds(self) -> float:
        """The whole time at work."""
        return float(self.edges[-1])

    def worked(self, activity: str) -> float:
        """Seconds of work of one activity."""
        return float((self.busy[activity] * np.diff(self.edges)).sum())


def step_spans(records: Iterable[Mapping[str, Any]]) -> list[Span]:
    """Training, waiting and scoring of each step in `metrics.jsonl`; scoring is put at the step that used it."""
    spans = []
    for r in records:
        if "seconds" in r and "time" in r:
            start, waited = r["time"] - r["seconds"], r.get("score_wait_seconds", 0.0)
            parts = {"training": r["seconds"] - waited}
            if "score_seconds" in r:
                parts |= {"waiting for scores": waited, "scoring": r["score_seconds"]}
            spans += [Span(activity, start, r["time"], work) for activity, work in parts.items()]
    return spans


def activities(
    spans: Sequence[Span], starts: Sequence[float] = (), aside: Collection[str] = ()
) -> Activities | None:
    """Put `spans` on one axis; None without any. What no span covers is `OTHER`; activities `aside` go on beside the
    others and cover nothing. `starts`: when each attempt began, in seconds since 1970."""
    if not spans:
        return None
    at_work = _at_work(spans, starts)
    lengths = np.cumsum([0.0, *(end - start for start, end in at_work)])
    clock = np.array([moment for interval in at_work for moment in interval])
    worked = np.array([w for before, after in pairwise(lengths) for w in (before, after)])
    edges = np.linspace(0, lengths[-1], BINS + 1)
    done: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(BINS + 1))
    for span in spans:
        start, end = np.interp([span.start, span.end], clock, worked)
        done[span.activity] += span.work * np.interp(edges, [start, max(end, start + 1e-9)], [0.0, 1.0])
    busy = {activity: np.diff(total) / np.diff(edges) for activity, total in done.items()}
    covered = sum((share for activity, share in busy.items() if activity not in aside), np.zeros(BINS))
    busy[OTHER] = np.clip(1 - covered, 0, None)
    return Activities(edges, {name: busy[name] for name in sorted(busy, key=_rank)})


def _rank(activity: str) -> float:
    """Place among the rows; unknown ones stand just before `OTHER`."""
    return ORDER.index(activity) if activity in ORDER else len(ORDER) - 1.5


def _at_work(spans: Sequence[Span], starts: Sequence[float]) -> list[tuple[float, float]]:
    """[start, end) of each attempt, its end being that of its last span."""
    first = min(span.start for span in spans)
    starts = sorted(starts if any(start <= first for start in starts) else [first, *starts])
    intervals = []
    for start, following in zip(starts, [*starts[1:], float("inf")], strict=True):
        ends = [span.end for span in spans if start <= span.start < following]
        if ends:
            intervals.append((start, min(max(ends), following)))
    return intervals
