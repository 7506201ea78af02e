"""Prepare a store with Ray Data: read tasks yield problems, a second stage tokenises, the driver writes in order.

    partitions ─► read (labels of `mini` are found here) ─► clean, tokenise ─► writer (this process) ─► manifest

The order of problems is the source's, whatever finishes first, so that the same source always gives the same store.
Nothing is held but the blocks in flight.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.exceptions import RayTaskError
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from wmtp_ray.cluster.stream import configure_streams
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.prepared import PreparedProblem, prepare_problem
from wmtp_ray.data.records import Problem, Reject, Source
from wmtp_ray.data.writer import StoreCounts, StoreWriter
from wmtp_ray.errors import WMTPError
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint

ITEMS_PER_BLOCK = 32
LINE_EVERY_SECONDS = 10.0


class PartitionSource(Datasource):
    """One read task for each partition of a source; the task carries the partition's descriptor, no data."""

    def __init__(self, source: Source, partitions: list[Any]) -> None:
        self._source, self._partitions = source, partitions

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before reading."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        """In the order of the partitions, whatever `parallelism` asks for."""
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(partial(_read_partition, self._source, number, partition), metadata)
            for number, partition in enumerate(self._partitions)
        ]


def _read_partition(source: Source, number: int, partition: Any) -> Iterator[pa.Table]:
    items: list[Problem | Reject] = []
    for item in source.problems(partition):
        items.append(item)
        if len(items) == ITEMS_PER_BLOCK:
            yield _block(number, items)
            items = []
    yield _block(number, items)


def _block(number: int, items: list[Any]) -> pa.Table:
    pickled = pa.array([pickle.dumps(item) for item in items], pa.binary())
    return pa.table({"partition": pa.array([number] * len(items), pa.int32()), "item": pickled})


@lru_cache(maxsize=1)
def _tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(directory)


def _prepare_block(block: pa.Table, tokenizer: Path, keep: dict[str, Any]) -> pa.Table:
    """Problems become prepared problems; rejects pass."""

    def prepared(pickled: bytes) -> bytes:
        item = pickle.loads(pickled)
        if isinstance(item, Problem):
            return pickle.dumps(prepare_problem(item, _tokenizer(tokenizer), **keep))
        return pickled

    items = [prepared(item) for item in block["item"].to_pylist()]
    return block.set_column(block.schema.get_field_index("item"), "item", pa.array(items, pa.binary()))


def prepare_store(
    config: PrepareJobConfig, source: Source, identity: dict[str, Any], tokenizer: Path, path: Path
) -> StoreCounts:
    """Read, clean, tokenise and write everything; this process must be connected to Ray.

    `tokenizer` is a resolved model directory, `identity` the source as the manifest records it. Raises the
    `WMTPError` that a task met; what was written until then is no store.
    """
    configure_streams()
    if not os.environ.get("WMTP_VERBOSE"):
        logging.getLogger("ray.data").setLevel(logging.ERROR)
    partitions = source.partitions()
    keep = {
        "max_length": config.max_length,
        "languages": config.languages,
        "max_bytes": config.max_bytes,
    }
    cluster = config.cluster
    blocks = ray.data.read_datasource(
        PartitionSource(source, partitions),
        num_cpus=cluster.cpus_per_read,
        override_num_blocks=len(partitions),
    ).map_batches(
        partial(_prepare_block, tokenizer=tokenizer, keep=keep),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=cluster.cpus_per_tokenize,
    )
    progress = _Progress(len(partitions))
    with StoreWriter(path) as writer:
        try:
            for row in blocks.iter_rows():
                item: PreparedProblem | Reject = pickle.loads(row["item"])
                writer.add(item)
                progress.add(row["partition"], item.rows_in if isinstance(item, PreparedProblem) else 1)
        except RayTaskError as error:
            if isinstance(error.cause, WMTPError):
                raise error.cause from None
            raise
        progress.end()
        return writer.finish(
            source=identity,
            tokenizer_fingerprint=tokenizer_fingerprint(load_tokenizer(tokenizer)),
            max_length=config.max_length,
            languages=list(config.languages),
            max_bytes=config.max_bytes,
        )


class _Progress:
    """Rows, rate, and time left by finished partitions: one line, rewritten on a terminal."""

    def __init__(self, num_partitions: int) -> None:
        self._total = num_partitions
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._started = self._printed = time.monotonic()
        self._rows = self._done = 0

    def add(self, partition: int, rows: int) -> None:
        self._rows += rows
        self._done = partition  # those before it are finished: blocks come in order
        every = 0.5 if self._console.is_terminal else LINE_EVERY_SECONDS
        if time.monotonic() - self._printed >= every:
            self._print("\r" if self._console.is_terminal else "\n")

    def end(self) -> None:
        self._done = self._total
        self._print("\n")

    def _print(self, end: str) -> None:
        self._printed = time.monotonic()
        seconds = self._printed - self._started
        left = ""
        if 0 < self._done < self._total:
            wait = int(seconds / self._done * (self._total - self._done))
            left = f"  {wait // 60}:{wait % 60:02d} left"
        parts = f"  {self._done}/{self._total} parts" if self._total > 1 else ""
        self._console.print(f"{self._rows:,} rows{parts}  {self._rows / seconds:,.0f} rows/s{left}", end=end)
