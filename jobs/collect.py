"""Sample solutions of problems that have tests, judge each in a sandbox, and make a store of them: programs that pass
are correct rows, programs that fail are incorrect ones. So problems and tests are enough to train a critic.

Unlike the proposal, which takes its labels from a data set. Stores are never changed: the rows of the store that
the problems come from, if they do, are kept and the samples added in a new one. A killed collection goes on with the
samples that are missing. What becomes a row and what does not: docs/collecting.md.

    python jobs/collect.py --config configs/quickstart/collect.yaml storage.root=/data/wmtp
    python jobs/collect.py --config configs/quickstart/collect.yaml name=mine problems.store=null \
      'problems.source={kind: problems, paths: [/data/problems.jsonl]}' store.held_out.valid_share=0.1
    ray job submit --working-dir . -- python jobs/collect.py --config configs/production/collect.yaml
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from wmtp_ray.cluster.collection import (
    plan_collection,
    preparation,
    require_own_store,
    require_same_problems,
)
from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.evaluation_plan import check_models
from wmtp_ray.cluster.prepare import copy_to, finished_store, move_aside, prepare_store
from wmtp_ray.cluster.verified_samples import verified_samples
from wmtp_ray.config.collect import CollectJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.counts import StoreCounts
from wmtp_ray.data.sources import build_source
from wmtp_ray.evaluation.samples import SAMPLES_FILE, read_samples
from wmtp_ray.evaluation.tally import tally
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.storage.manifest import MANIFEST_NAME
from wmtp_ray.storage.runs import RunDirectory

console = Console(highlight=False, markup=False, soft_wrap=True)


def run(config: CollectJobConfig, flags: Flags) -> None:
    """Collect as `config` says, or go on with what is missing, or show what a finished collection made."""
    path = config.storage.root / "stores" / config.name
    if flags.dry_run:
        check_models(config)
        plan = plan_collection(config)
        console.print(f"{explained_yaml(config)}\ncollect-{config.name}: {plan.summary()}, into {path}")
        return
    require_own_store(path, f"collect-{config.name}")
    run = RunDirectory.open(config.storage.root, "collect", config, fresh=flags.fresh)
    if flags.fresh:
        move_aside(path)
    if run.result is not None:
        console.print(f"{run.path.name} is finished (--fresh starts anew):")
        _show(run, finished_store(preparation(config, run), path), path)
        return copy_to(path, config.store.upload, console.print)
    require_same_problems(run, config)
    samples = verified_samples(plan_collection(config), run, console.print)
    counts = _store(preparation(config, run), path)
    run.finish({"samples": len(samples), "store": config.name, "rows_kept": counts.rows_kept})
    _show(run, counts, path)
    copy_to(path, config.store.upload, console.print)


def _store(config: PrepareJobConfig, path: Path) -> StoreCounts:
    """The store of the samples, made if it is not there yet."""
    if (path / MANIFEST_NAME).exists():
        return finished_store(config, path)
    source = build_source(config.source, config.languages)
    tokenizer = resolve_model(config.tokenizer, config.storage.root / "models")
    with connected({"CPU": config.cluster.cpus_per_read + config.cluster.cpus_per_tokenize}):
        return prepare_store(config, source, tokenizer, path)


def _show(run: RunDirectory, counts: StoreCounts, path: Path) -> None:
    for line in tally(read_samples(run.path / SAMPLES_FILE)):
        console.print(line)
    console.print(f"{counts.line()}\nstore: {path}")
    if not counts.problems_with_both:
        console.print("No problem has correct and incorrect rows, so no critic can be trained on this store.")


if __name__ == "__main__":
    run_command(CollectJobConfig, run, __doc__)
