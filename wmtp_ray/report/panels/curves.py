"""Metrics of training over steps: of one run, or of several beside each other; held-out values as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from wmtp_ray.report.figures import Curve, line_chart
from wmtp_ray.report.markup import figure, figures, note, section
from wmtp_ray.report.runs import TrainingRun

COMPARED = (
    ("loss_unweighted", "unweighted loss"),
    ("loss", "loss as trained"),
    ("pairwise_accuracy", "pairwise accuracy"),
    ("weight_ess", "effective sample size"),
)
OF_ARMS = {"loss_head_1": "loss of the next token, unweighted", "grad_norm": "gradient norm before clipping"}
OF_ONE_RUN: Mapping[str, Mapping[str, str]] = {
    "loss": {"loss": "as trained", "loss_unweighted": "unweighted"},
    "pairwise accuracy": {"pairwise_accuracy": "critic", "shorter_wins_accuracy": "shorter wins"},
    "value margin": {"margin": "correct − incorrect"},
    "value of response tokens": {"value_mean": "mean", "value_std": "standard deviation"},
    "gradient norm": {"grad_norm": "before clipping"},
    "learning rate": {"learning_rate": "model", "learning_rate_head": "value head"},
}
WEIGHTS: Mapping[str, Mapping[str, str]] = {
    "token weight": {
        **{"weight_mean": "mean", "weight_std": "standard deviation", "weight_min": "least"},
        **{"weight_max": "greatest", "weight_eos": "mean of EOS"},
    },
    "share of tokens at a clip bound": {"weight_share_at_min": "lower", "weight_share_at_max": "upper"},
    "concentration": {"weight_ess": "effective sample size", "weight_entropy": "normalised entropy"},
    "advantage": {
        **{"advantage_mean": "mean", "advantage_std": "standard deviation"},
        **{"ema_mean": "moving mean", "ema_std": "moving standard deviation"},
    },
}
_STEP = "optimizer step"


def compared_curves(runs: Sequence[TrainingRun]) -> str:
    """A figure for each of the most telling metrics, a curve for each run that has it."""
    charts = []
    for key, label in COMPARED:
        curves, points = _found({run.name: _curves(run, key) for run in runs})
        if curves or points:
            charts.append(figure(line_chart(curves, x_label=_STEP, y_label=label, points=points)))
    return section("Training", figures(*charts))


def arm_curves(arms: Mapping[str, Sequence[TrainingRun]]) -> str:
    """How steadily each arm of a comparison trained: the mean over its runs, one of each seed, at every step."""
    charts = []
    for key, label in OF_ARMS.items():
        curves = {
            arm: curve for arm, runs in arms.items() if (curve := mean_curve([r.curve(key) for r in runs]))[0]
        }
        if curves:
            charts.append(figure(line_chart(curves, x_label=_STEP, y_label=label)))
    return section("Training", figures(*charts), note("On the step's own samples; means over seeds."))


def run_curves(run: TrainingRun) -> str:
    """Everything that one run logged of its loss, head by head, and of its optimizer."""
    heads = sorted({key for r in run.records for key in r if key.startswith("loss_head_")}, key=_natural)
    per_head = {key: f"{key.removeprefix('loss_head_')} ahead" for key in heads}
    per_head |= {"loss_head_1": "next token"} if per_head else {}
    groups = {"loss": OF_ONE_RUN["loss"], "unweighted loss per head": per_head, **OF_ONE_RUN}
    return section(
        "Training",
        _charts(run, groups),
        note("Circles: held out. Faint: each step, where its moving mean is drawn over it."),
    )


def weight_curves(run: TrainingRun) -> str:
    """Statistics of the token weights over steps; nothing where every token weighs the same."""
    if not any(r.get("weight_std") for r in run.records):
        return ""
    return _charts(run, WEIGHTS)


def _curves(run: TrainingRun, key: str) -> tuple[Curve, Curve]:
    """A metric in training and held out."""
    return run.curve(key), run.curve(f"val_{key}")


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Their mean at the steps that all of them have."""
    by_step = [dict(zip(steps, values, strict=True)) for steps, values in curves]
    shared = sorted(set.intersection(*map(set, by_step)))
    return shared, [fmean(values[step] for values in by_step) for step in shared]


def _natural(key: str) -> tuple[int, str]:
    """2 before 10."""
    return len(key), key


def _charts(run: TrainingRun, groups: Mapping[str, Mapping[str, str]]) -> str:
    charts = []
    for label, keys in groups.items():
        curves, points = _found({name: _curves(run, key) for key, name in keys.items()})
        if curves or points:
            chart = line_chart(curves, x_label=_STEP, y_label=label, points=points, name_points=False)
            charts.append(figure(chart))
    return figures(*charts)


def _found(both: Mapping[str, tuple[Curve, Curve]]) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Curves and points by name, without empty ones."""
    curves = {name: curve for name, (curve, _) in both.items() if curve[0]}
    return curves, {name: points for name, (_, points) in both.items() if points[0]}
