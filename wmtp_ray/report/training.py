"""The report of one training run: critic, baseline, weighted policy, reference model."""

from __future__ import annotations

from wmtp_ray.report.page import page
from wmtp_ray.report.panels.critic import critic_diagnostics
from wmtp_ray.report.panels.curves import run_curves, weight_curves
from wmtp_ray.report.panels.resources import training_resources
from wmtp_ray.report.panels.settings import environment_facts, settings
from wmtp_ray.report.panels.weights import token_weights
from wmtp_ray.report.runs import TrainingRun


def training_report(run: TrainingRun) -> str:
    """The page."""
    return page(
        run.name,
        (
            critic_diagnostics(run.diagnostics),
            run_curves(run),
            token_weights([run], weight_curves(run)),
            training_resources(run),
            settings(environment_facts(run.attempts), run.config_yaml, run.result),
        ),
    )
