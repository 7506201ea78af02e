"""The table at the end of the quickstart: read from the result files of its stages, computed nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from wmtp_ray.errors import StorageError
from wmtp_ray.evaluation.statistics import INTERVAL
from wmtp_ray.storage.runs import RunDirectory, run_path


def quickstart_summary(root: Path, name: str) -> Group:
    """Critic, losses, weights, cost, pass@k of the finished runs `name` under `root`, and where the report is."""
    critic, baseline, weighted = (_result(root, job, name) for job in ("critic", "baseline", "verifiable"))
    stages = {"critic": critic, "baseline": baseline, "verifiable": weighted}
    return Group(
        _critic_table(critic),
        _loss_table(baseline, weighted),
        _weight_table(weighted),
        _cost_table(stages),
        _pass_table(_result(root, "evaluate", name)),
        f"report: {run_path(root, 'evaluate', name) / 'report.html'}",
    )


def _result(root: Path, job: str, name: str) -> dict[str, Any]:
    run = RunDirectory(run_path(root, job, name))
    if run.result is None:
        raise StorageError(f"{run.path} is not finished; run its stage again")
    return run.result


def _critic_table(critic: dict[str, Any]) -> Table:
    after = critic["after"]
    table = Table(title="Critic on held-out problems", title_justify="left")
    for column in ("pairs", "pairwise accuracy", "'shorter wins' accuracy", "margin"):
        table.add_column(column, justify="right")
    table.add_row(
        f"{after['val_pairs']:.0f}",
        f"{after['val_pairwise_accuracy']:.3f}",
        f"{after['val_shorter_wins_accuracy']:.3f}",
        f"{after['val_margin']:.3f}",
    )
    return table


def _loss_table(baseline: dict[str, Any], weighted: dict[str, Any]) -> Table:
    """Held-out cross-entropy in nats per token. The base's extra heads are untrained copies of its last layer."""
    heads = sorted(name for name in baseline["after"] if name.startswith("val_loss_head_"))
    table = Table(title="Held-out loss (nats per token, unweighted)", title_justify="left")
    table.add_column("policy")
    for head in heads:
        k = head.removeprefix("val_loss_head_")
        table.add_column("next token" if k == "1" else f"{k} ahead", justify="right")
    rows = {"base": baseline["before"], "baseline": baseline["after"], "WMTP": weighted["after"]}
    for policy, losses in rows.items():
        table.add_row(policy, *(f"{losses[head]:.4f}" for head in heads))
    return table


def _weight_table(weighted: dict[str, Any]) -> Table:
    after = weighted["after"]
    table = Table(title="WMTP token weights on held-out problems (before mean_one)", title_justify="left")
    columns = {
        "mean": "val_weight_mean",
        "effective sample size": "val_weight_ess",
        "at lower clip": "val_weight_share_at_min",
        "at upper clip": "val_weight_share_at_max",
    }
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row(*(f"{after[key]:.3f}" for key in columns.values()))
    return table


def _pass_table(evaluation: dict[str, Any]) -> Table:
    """pass@k in percent with its interval."""
    rows = evaluation["rows"]
    table = Table(title=f"pass@k in percent, {INTERVAL}", title_justify="left")
    for column in ("benchmark", "model", "problems", *(f"pass@{k}" for k in rows[0]["pass_at_k"])):
        table.add_column(column, justify="left" if column in ("benchmark", "model") else "right")
    for row in rows:
        estimates = [
            f"{100 * e['mean']:.1f} ({100 * e['low']:.1f} to {100 * e['high']:.1f})"
            for e in row["pass_at_k"].values()
        ]
        table.add_row(
            row["benchmark"], row["model"], f"{row['problems']}/{row['problems_total']}", *estimates
        )
    return table


def _cost_table(stages: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Cost", title_justify="left")
    for column in ("stage", "steps", "tokens", "tokens/s", "seconds", "waiting for scores"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, result in stages.items():
        table.add_row(
            stage,
            str(result["steps"]),
            str(result["tokens"]),
            f"{result['tokens_per_second']:.0f}",
            f"{result['seconds']:.0f}",
            f"{result['score_wait_share']:.1%}" if "critic_forwards" in result else "",
        )
    return table
