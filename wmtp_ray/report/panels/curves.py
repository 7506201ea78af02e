"""Metrics of training over steps, each run a curve, held-out values as points."""

from __future__ import annotations

from collections.abc import Sequence

from wmtp_ray.report.figures import line_chart
from wmtp_ray.report.markup import figure, section
from wmtp_ray.report.runs import TrainingRun

SHOWN = (
    ("loss_unweighted", "unweighted loss"),
    ("loss", "loss as trained"),
    ("pairwise_accuracy", "pairwise accuracy"),
    ("weight_ess", "effective sample size"),
)


def training_curves(runs: Sequence[TrainingRun]) -> str:
    """A figure for each metric that any of the runs has."""
    charts = []
    for key, label in SHOWN:
        curves = {run.name: curve for run in runs if (curve := run.curve(key))[0]}
        points = {run.name: curve for run in runs if (curve := run.curve(f"val_{key}"))[0]}
        if curves or points:
            charts.append(figure(line_chart(curves, x_label="optimizer step", y_label=label, points=points)))
    return section("Training", *charts)
