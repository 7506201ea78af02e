"""Prepare a solution store: labelled programs from a source, cleaned, counted in tokens, addressed by row number.

Unlike the proposal: text and metadata are columnar (k of n rows cost O(k)), lengths are counted with the real
tokenizer and the template, every row left out is written to `rejects.jsonl` with its reason, and the counts add up.
Sources, rules and reasons: docs/preparing.md.

    python jobs/prepare.py --config configs/quickstart/prepare.yaml storage.root=/data/wmtp
    python jobs/prepare.py --config configs/production/prepare.yaml source.dataset=null 'source.paths=[/data/contests]'
    ray job submit --working-dir . -- python jobs/prepare.py --config configs/quickstart/prepare.yaml
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.prepare import move_aside, prepare_store
from wmtp_ray.config import dump_yaml
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.recipe import finished_counts, recipe_of
from wmtp_ray.data.sources import build_source
from wmtp_ray.data.store import store_path
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.storage.manifest import MANIFEST_NAME
from wmtp_ray.storage.remote import upload

console = Console(highlight=False, markup=False, soft_wrap=True)


def run(config: PrepareJobConfig, flags: Flags) -> None:
    """Make the store that `config` describes, or show the one that is there."""
    path = store_path(config.storage.root, config.name)
    source, recipe = build_source(config.source, config.languages), recipe_of(config)
    beginning = f"store {path} from {len(source.partitions())} parts of {recipe['source']}"
    if flags.dry_run:
        console.print(dump_yaml(config))
        console.print(beginning)
        return
    if flags.fresh:
        move_aside(path)
    if (path / MANIFEST_NAME).exists():
        finished = finished_counts(recipe, path).line()
        console.print(f"store {path} is finished (--fresh makes it anew): {finished}")
        return _upload(path, config.upload)
    tokenizer = resolve_model(config.tokenizer, config.storage.root / "models")
    started = time.perf_counter()
    console.print(beginning)
    with connected(config.cluster.cpus_per_read + config.cluster.cpus_per_tokenize):
        counts = prepare_store(config, source, tokenizer, path)
    console.print(f"{counts.line()}; {time.perf_counter() - started:.0f} s")
    _upload(path, config.upload)


def _upload(path: Path, uri: str | None) -> None:
    if uri is not None:
        copied = upload(path, "store", uri)
        console.print(f"{'copied to' if copied else 'is already at'} {uri}")


if __name__ == "__main__":
    run_command(PrepareJobConfig, run, __doc__)
