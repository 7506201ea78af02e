"""Where time and memory went."""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping, Sequence
from typing import Any

from wmtp_ray.report.activity import Activities, activities, step_spans
from wmtp_ray.report.figures import lanes_chart, line_chart
from wmtp_ray.report.markup import figure, figures, folded, note, percent, section, table
from wmtp_ray.report.runs import TrainingRun
from wmtp_ray.storage.timeline import Span


def timeline(found: Activities | None, *notes: str) -> str:
    """A row per activity over time, and the sums."""
    if found is None:
        return ""
    unit, name = (60.0, "minutes") if found.seconds >= 180 else (1.0, "seconds")
    body = [
        [activity, f"{found.worked(activity):.1f}", percent(found.worked(activity) / found.seconds)]
        for activity in found.busy
    ]
    edges = (found.edges / unit).tolist()
    lanes = {activity: busy.tolist() for activity, busy in found.busy.items()}
    full = (
        "A full row means one at work all the time, or the most that were; time between attempts is left out."
    )
    return (
        figure(lanes_chart(lanes, edges, x_label=f"{name} at work"))
        + table(["activity", "seconds", "of the time"], body)
        + note(" ".join((full, *notes)))
    )


def training_resources(run: TrainingRun) -> str:
    """Timeline, speed, memory, and what was noticed."""
    spans = [*run.timeline, *step_spans(run.records)]
    memory = {
        label: (steps, [value / 1e9 for value in values])
        for key, label in (("peak_memory_bytes", "worker"), ("peak_gpu_memory_bytes", "GPU"))
        if (steps := (curve := run.curve(key))[0]) and (values := curve[1])
    }
    charts = [
        figure(line_chart(curves, x_label="optimizer step", y_label=label))
        for label, curves in (
            (
                "tokens per second",
                _curves(run, tokens_per_second="useful", padded_tokens_per_second="with padding"),
            ),
            ("peak memory, GB", memory),
            ("share of scores in the cache", _curves(run, cache_hit_rate="")),
        )
        if curves
    ]
    return section(
        "Resources",
        timeline(
            activities(spans, _starts(run.attempts), {"scoring"}),
            "Scoring goes on beside training, on the critics, and is drawn at the step that used the scores.",
        ),
        figures(*charts),
        folded("Notices", run.notices) if run.notices else "",
    )


def evaluation_resources(spans: Sequence[Span], attempts: Sequence[Mapping[str, Any]]) -> str:
    """Engines loading and sampling, verifiers judging. `attempts`: the run's `environment.json`."""
    found = activities(spans, _starts(attempts), {"verifying"})
    return section("Resources", timeline(found, "Verifying goes on beside sampling."))


def _starts(attempts: Sequence[Mapping[str, Any]]) -> list[int]:
    """2026-01-31T12:00:00Z of each → seconds since 1970."""
    return [calendar.timegm(time.strptime(each["started"], "%Y-%m-%dT%H:%M:%SZ")) for each in attempts]


def _curves(run: TrainingRun, **labels: str) -> dict[str, tuple[list[float], list[float]]]:
    return {label: curve for key, label in labels.items() if (curve := run.curve(key))[0]}
