"""Prepare a solution store: labelled programs from a source, cleaned, counted in tokens, addressed by row number.

Departs from the seed: text and metadata are columnar (k of n rows cost O(k)), lengths are counted with the real
tokenizer and the template, every row left out is written to `rejects.jsonl` with its reason, and the counts add up.

    python jobs/prepare.py --config configs/quickstart/prepare.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/prepare.py --config configs/quickstart/prepare.yaml
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.prepare import prepare_store
from wmtp_ray.config import dump_yaml
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.sources import build_source, source_identity
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import StoreCounts
from wmtp_ray.errors import ConfigError
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.storage.manifest import MANIFEST_NAME

console = Console(highlight=False, markup=False, soft_wrap=True)


def run(config: PrepareJobConfig, flags: Flags) -> None:
    """Make the store that `config` describes, or show the one that is there."""
    path = config.storage.root / "stores" / config.name
    source, identity = build_source(config.source), source_identity(config.source)
    if flags.dry_run:
        console.print(dump_yaml(config))
        console.print(f"store {path} from {len(source.partitions())} parts of {identity}")
        return
    if flags.fresh and path.exists():
        path.rename(path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}"))
    if (path / MANIFEST_NAME).exists():
        return _show_finished(config, identity, path)
    tokenizer = resolve_model(config.tokenizer, config.storage.root / "models")
    started = time.perf_counter()
    console.print(f"store {path} from {len(source.partitions())} parts of {identity}")
    with connected(max(config.cluster.cpus_per_read, config.cluster.cpus_per_tokenize)):
        counts = prepare_store(config, source, identity, tokenizer, path)
    console.print(f"{counts.line()}; {time.perf_counter() - started:.0f} s")


def _show_finished(config: PrepareJobConfig, identity: dict[str, Any], path: Path) -> None:
    store = SolutionStore.open(path)
    wanted = {
        "source": identity,
        "max_length": config.max_length,
        "languages": list(config.languages),
        "max_bytes": config.max_bytes,
    }
    for key, value in wanted.items():
        if store.manifest.facts[key] != value:
            raise ConfigError(
                f"store {path} was prepared with {key} = {store.manifest.facts[key]}, not {value}; "
                "use --fresh or another name"
            )
    console.print(
        f"store {path} is finished (--fresh makes it anew): {StoreCounts(**store.manifest.facts['counts']).line()}"
    )


if __name__ == "__main__":
    run_command(PrepareJobConfig, run, __doc__)
