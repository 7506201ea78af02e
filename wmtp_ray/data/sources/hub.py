"""Data sets on the Hugging Face hub, through `datasets`, streamed shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from wmtp_ray.errors import DataError


@dataclass(frozen=True)
class HubShard:
    """One file, or so, of one split. `dataset` may also be a local directory of the hub's layout."""

    dataset: str
    configuration: str | None
    revision: str | None
    hub_split: str
    split: str
    """As stores call it."""
    number: int
    total: int


def hub_shards(
    dataset: str, configuration: str | None, revision: str | None, splits: tuple[str, ...]
) -> list[HubShard]:
    """The shards of `splits`; `DataError` for a data set or split that cannot be opened."""
    shards = []
    for split in splits:
        hub_split, stream = _stream(dataset, configuration, revision, split)
        total = stream.num_shards
        shards += [
            HubShard(dataset, configuration, revision, hub_split, split, number, total)
            for number in range(total)
        ]
    return shards


def shard_tables(shard: HubShard, rows: int) -> Iterator[pa.Table]:
    """The rows of one shard, `rows` at a time."""
    _, stream = _stream(shard.dataset, shard.configuration, shard.revision, shard.hub_split)
    part = stream.shard(num_shards=shard.total, index=shard.number) if shard.total > 1 else stream
    yield from part.with_format("arrow").iter(batch_size=rows)


def _stream(dataset: str, configuration: str | None, revision: str | None, split: str):
    import datasets  # a second's import, for those who read from the hub

    names = (split, "validation") if split == "valid" else (split,)
    failure: Exception | None = None
    for name in names:
        try:
            return name, datasets.load_dataset(
                dataset, configuration, split=name, revision=revision, streaming=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            failure = failure or error
    raise DataError(
        f"cannot open split {split} of data set {dataset} ({' '.join(str(failure).split())}); check "
        "source.dataset, the network and HF_HUB_OFFLINE, or name local files in source.paths"
    ) from failure
