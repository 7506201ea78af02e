"""`timeline.jsonl` of a run: what went on when, one finished activity a line, for the report.

Steps of training are not in it; they stand in `metrics.jsonl` with their own times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from wmtp_ray.errors import StorageError

FILE = "timeline.jsonl"


@dataclass(frozen=True)
class Span:
    """An activity from `start` to `end`, in seconds since 1970."""

    activity: str
    start: float
    end: float
    seconds: float | None = None
    """Work inside the span, where that is not its length (several workers, or pauses)."""

    @property
    def work(self) -> float:
        """Seconds of work inside the span."""
        return self.end - self.start if self.seconds is None else self.seconds


def record_span(run: Path, span: Span) -> None:
    """Append one line to the timeline of the run directory `run`; `StorageError` on a full disk."""
    try:
        with (run / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(span)) + "\n")
    except OSError as error:
        raise StorageError(
            f"cannot write {run / FILE}: {error.strerror or error}; free space and run the same command"
        ) from error


@contextmanager
def timed(run: Path | None, activity: str) -> Iterator[None]:
    """Record what goes on inside unless it fails; None records nothing (all ranks but the first)."""
    started = time.time()
    yield
    if run is not None:
        record_span(run, Span(activity, started, time.time()))


def read_timeline(run: Path) -> list[Span]:
    """All spans of a run, none where nothing was recorded; a last line without its end is left out."""
    path = run / FILE
    if not path.exists():
        return []
    return [Span(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
