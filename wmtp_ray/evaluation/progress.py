"""One line of an evaluation's progress: samples judged, pass rates so far, time left."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console

from wmtp_ray.evaluation.samples import JudgedSample

MOST_MODELS = 4
"""So many of the models that were begun last are shown."""
LINE_EVERY_SECONDS = 15.0
"""Where the output is no terminal (a submitted job's log)."""


class EvaluationProgress:
    """Counts judged samples and prints now and then."""

    def __init__(self, done: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._before, self._done, self._total, self._clock = done, done, total, clock
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._judged: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()
        self._first = self._printed = clock()

    def __call__(self, sample: JudgedSample) -> None:
        """Take in one more sample."""
        now = self._clock()
        if self._done == self._before:
            self._first = now  # engines load before it; the rate is that of sampling
        self._done += 1
        row = f"{sample.model} T={sample.temperature:g}"
        self._judged[row] += 1
        self._passed[row] += sample.status == "passed"
        every = 1.0 if self._console.is_terminal else LINE_EVERY_SECONDS
        if now - self._printed >= every or self._done == self._total:
            self._printed = now
            end = "\r" if self._console.is_terminal and self._done < self._total else "\n"
            self._console.print(self._line(now), end=end)

    def _line(self, now: float) -> str:
        rates = "  ".join(
            f"{m} {self._passed[m] / n:.1%} of {n}" for m, n in list(self._judged.items())[-MOST_MODELS:]
        )
        new = self._done - self._before - 1
        left = (now - self._first) / new * (self._total - self._done) if new else 0.0
        ending = f"  {int(left // 60)}:{int(left % 60):02d} left" if new and self._done < self._total else ""
        return f"judged {self._done}/{self._total}  passed: {rates}{ending}"
