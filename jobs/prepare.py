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

from rich.console import Console

from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.prepare import copy_to, finished_store, move_aside, prepare_store
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.sources import build_source, source_identity
from wmtp_ray.data.store import store_path
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.storage.manifest import MANIFEST_NAME

console = Console(highlight=False, markup=False, soft_wrap=True)


def run(config: PrepareJobConfig, flags: Flags) -> None:
    """Make the store that `config` describes, or show the one that is there."""
    path = store_path(config.storage.root, config.name)
    source = build_source(config.source, config.languages)
    beginning = f"store {path} from {len(source.partitions())} parts of {source_identity(config.source)}"
    if flags.dry_run:
        console.print(explained_yaml(config))
        console.print(beginning)
        return
    if flags.fresh:
        move_aside(path)
    if (path / MANIFEST_NAME).exists():
        finished = finished_store(config, path).line()
        console.print(f"store {path} is finished (--fresh makes it anew): {finished}")
        return copy_to(path, config.upload, console.print)
    tokenizer = resolve_model(config.tokenizer, config.storage.root / "models")
    started = time.perf_counter()
    console.print(beginning)
    with connected({"CPU": config.cluster.cpus_per_read + config.cluster.cpus_per_tokenize}):
        counts = prepare_store(config, source, tokenizer, path)
    console.print(f"{counts.line()}; {time.perf_counter() - started:.0f} s")
    copy_to(path, config.upload, console.print)


if __name__ == "__main__":
    run_command(PrepareJobConfig, run, __doc__)
