"""One line of progress: read from the run directory, so that it shows what has really been written."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from math import isfinite, nan
from types import TracebackType
from typing import Any

from rich.console import Console

from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.metrics_file import last_step

EVERY_SECONDS = 1.0
LINE_EVERY_SECONDS = 15.0
"""Where the output is no terminal (a submitted job's log), a line is printed this often."""

SHOWN = ("loss", "loss_unweighted", "pairwise_accuracy", "margin", "weight_ess", "tokens_per_second")


class Progress:
    """Shows steps, rate and time left while a training job runs. Use as a context manager."""

    def __init__(
        self, run: RunDirectory, total_steps: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._total, self._clock = run, total_steps, clock
        self._console = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._notices = 0
        self._printed = clock()
        self._pace = Pace(self._last_step())
        alone = threading.current_thread() is threading.main_thread()
        self._label = "" if alone else f"{run.path.name}  "  # several runs at a time have a thread each

    def __enter__(self) -> Progress:
        notices = self._run.path / "notices.log"
        self._notices = len(notices.read_text().splitlines()) if notices.exists() else 0
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        shown = -1
        while True:
            stopping = self._stop.wait(EVERY_SECONDS)
            self._show_notices()
            record = last_step(self._run.metrics)
            done = record["step"] if record else 0
            self._pace.see(done, self._clock())
            due = self._console.is_terminal or self._clock() - self._printed >= LINE_EVERY_SECONDS or stopping
            if done != shown and record and due:
                shown, self._printed = done, self._clock()
                end = "\r" if self._console.is_terminal and not stopping else "\n"
                self._console.print(self._line(record, done), end=end)
            if stopping:
                return

    def _show_notices(self) -> None:
        notices = self._run.path / "notices.log"
        if notices.exists():
            lines = notices.read_text().splitlines()
            for line in lines[self._notices :]:
                self._console.print(line)
            self._notices = len(lines)

    def _line(self, record: dict[str, Any], done: int) -> str:
        values = "  ".join(f"{name} {record[name]:.4g}" for name in SHOWN if isfinite(record.get(name, nan)))
        return f"{self._label}step {done}/{self._total}  {values}  {self._time_left(done)}"

    def _time_left(self, done: int) -> str:
        seconds = self._pace.seconds_per_step
        if done >= self._total or seconds is None:
            return ""
        return f"{timedelta(seconds=int(seconds * (self._total - done)))} left"

    def _last_step(self) -> int:
        record = last_step(self._run.metrics)
        return record["step"] if record else 0


class Pace:
    """Seconds per step, measured from the first step that this start of the run finished: neither its set-up nor what
    an earlier start wrote counts, nor steps that are done again after a death."""

    def __init__(self, done_before: int) -> None:
        """`done_before`: the last step that is written, by an earlier start, before this one begins."""
        self._written = done_before
        self._first: tuple[int, float] | None = None
        self.seconds_per_step: float | None = None
        """None until two steps are done."""

    def see(self, done: int, now: float) -> None:
        """Step `done` is the last one that is written at the time `now`."""
        if done < self._written:  # taken up at a checkpoint, from which on steps are written anew
            self._first = None
        elif done > self._written and self._first is None:
            self._first = (done, now)
        elif done > self._written and self._first:
            step, since = self._first
            self.seconds_per_step = (now - since) / (done - step)
        self._written = done
