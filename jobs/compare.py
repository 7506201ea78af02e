"""Did it beat the baseline? Arms x seeds from one configuration, paired differences, and a sentence in plain words.

Every cell is an ordinary policy run with the same base, plan, steps and start as the others of its seed and weights of
mean 1, and is judged at its last step. Critics and reference models that are not there are trained first. The same
command goes on with what is missing; cells that are finished are used again.

    python jobs/compare.py --config configs/quickstart/compare.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/compare.py --config configs/production/compare.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from rich.console import Console
from rich.table import Table

from jobs import critic, ref_tuning
from wmtp_ray.cluster.cells import require_unchanged, train_cells
from wmtp_ray.cluster.compared import best_rates, described, evaluation_name, evaluation_of, gather
from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.evaluation_plan import plan_evaluation, sampling_resources
from wmtp_ray.cluster.matrix import Cell, Matrix
from wmtp_ray.cluster.resources import largest
from wmtp_ray.cluster.verified_samples import verified_samples
from wmtp_ray.config import CriticJobConfig, dump_yaml
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.compare import CompareJobConfig
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.evaluation.comparison import Comparison
from wmtp_ray.evaluation.listings import listings, markdown, to_csv, to_json
from wmtp_ray.evaluation.samples import JudgedSample
from wmtp_ray.report.comparison import comparison_report
from wmtp_ray.report.runs import training_run
from wmtp_ray.storage.runs import REPORT, RunDirectory, run_path

console = Console(highlight=False, markup=False, soft_wrap=True, width=200)
"""A job's log has no width of its own, and tables are wide."""


def run(config: CompareJobConfig, flags: Flags) -> None:
    """Train what is missing, evaluate it, and say what came out."""
    matrix = Matrix(config)
    matrix.check_held_out()
    if flags.dry_run:
        console.print(explained_yaml(config))
        for line in described(matrix):
            console.print(line)
        return
    if flags.fresh:
        _move_aside(matrix)
    run = RunDirectory.open(config.storage.root, "compare", config)
    with nullcontext() if _all_there(matrix) else connected(_resources(matrix)):
        _train_frozen(matrix)
        tried = matrix.tried()
        _train(matrix, tried)
        cells = matrix.cells(best_rates(matrix, tried))
        done = {cell.config.name for cell in tried}
        _train(matrix, [c for c in cells if c.config.name not in done])
        samples = _samples(config, cells)
    comparison = gather(matrix, cells, tried, samples)
    run.write("config.yaml", dump_yaml(config))
    run.write("report.md", markdown(comparison))
    run.write("results.csv", to_csv(comparison))
    arms = {arm.name: [training_run(c.run) for c in cells if c.arm == arm.name] for arm in config.arms}
    run.write(REPORT, comparison_report(comparison, arms, dump_yaml(config)))
    run.finish(to_json(comparison))
    _show(comparison, run)


def _move_aside(matrix: Matrix) -> None:
    """All that an earlier start left, before anything is trained: killed half-way, the same command without --fresh
    would take old cells for new ones."""
    root, config = matrix.comparison.storage.root, matrix.comparison
    for run in (
        *(cell.run for cell in matrix.every_cell()),
        RunDirectory(run_path(root, "evaluate", evaluation_name(config))),
        RunDirectory(run_path(root, "compare", config.name)),
    ):
        run.move_aside()


def _all_there(matrix: Matrix) -> bool:
    """Whether nothing is left to train."""
    tried = matrix.tried()
    if not all(one.finished for one in (*matrix.frozen, *tried)):
        return False
    return all(cell.finished for cell in matrix.cells(best_rates(matrix, tried)))


def _train_frozen(matrix: Matrix) -> None:
    """Critics and reference models that the comparison trains itself, unless they are there."""
    flags = Flags(dry_run=False, fresh=False)
    for model in matrix.frozen:
        if model.finished:
            for part in model.parts if model.own else ():
                model.directory(part).refuse_changes(part)
            model.check_stores()
            console.print(f"{model.kind}-{model.run} is finished and used as it is")
        elif isinstance(model.own, CriticJobConfig):
            critic.run(model.own, flags)
        elif model.own is not None:
            ref_tuning.run(model.own, flags)


def _train(matrix: Matrix, cells: Sequence[Cell]) -> None:
    if not cells:
        return
    require_unchanged(cells, matrix.base_fingerprint)
    there = sum(cell.finished for cell in cells)
    console.print(f"{len(cells)} cells, {there} of them finished and used again")
    train_cells(cells, matrix.comparison.held_out, matrix.comparison.concurrent, console.print)


def _samples(config: CompareJobConfig, cells: Sequence[Cell]) -> list[JudgedSample]:
    if config.pass_at_k is None:
        return []
    wanted = evaluation_of(config, config.pass_at_k, cells)
    run = RunDirectory.open(config.storage.root, "evaluate", wanted)
    plan = plan_evaluation(wanted)
    models = {model.name for model in wanted.models}
    return [
        sample
        for sample in verified_samples(plan, run, console.print)
        if sample.model in models
        and (sample.benchmark, sample.problem_id) in plan.tasks
        and sample.temperature in wanted.decoding.temperatures
        and sample.sample < wanted.decoding.samples_per_problem
    ]


def _resources(matrix: Matrix) -> dict[str, float]:
    wanted = matrix.comparison.pass_at_k
    sampling = sampling_resources(wanted.engine, wanted.judge) if wanted else {}
    return largest(matrix.resources, sampling)


def _show(comparison: Comparison, run: RunDirectory) -> None:
    for listing in listings(comparison):
        table = Table(*listing.header, title=listing.title, title_justify="left", box=None, pad_edge=False)
        for row in listing.rows:
            table.add_row(*row)
        console.print(table)
        if listing.note:
            console.print(listing.note)
        console.print()
    for sentence in comparison.sentences:
        console.print(sentence)
    console.print(f"report: {run.path / REPORT} (as Markdown: report.md)")


if __name__ == "__main__":
    run_command(CompareJobConfig, run, __doc__)
