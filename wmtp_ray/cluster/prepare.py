"""Prepare a store with Ray Data: read tasks yield problems, a second stage cleans and tokenises, the driver writes.

    partitions ─► read (labels of `mini` are found here) ─► clean, tokenise ─► parts on disk ─► place ─► store

The order of problems is the source's, whatever finishes first, so that the same source always gives the same store.
Memory holds the blocks in flight, and of every problem what it is compared with others by. Prepared parts are kept
until the store is whole: an interrupted prepare goes on with those that are missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import transformers
from filelock import FileLock, Timeout
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from rich.console import Console

from actors.answers import own_errors
from wmtp_ray.cluster.stream import configure_streams, fetched
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.counts import StoreCounts
from wmtp_ray.data.parts import Parts
from wmtp_ray.data.prepared import Rules, prepare_problem
from wmtp_ray.data.recipe import finished_counts, recipe_of, resume_key, rules_of
from wmtp_ray.data.records import Problem, Source
from wmtp_ray.data.splits import place
from wmtp_ray.data.writer import StoreWriter
from wmtp_ray.errors import StorageError
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.storage.remote import upload

BLOCK_BYTES = 4 << 20
"""Of a block of problems: small enough that a source in one part keeps all cores busy."""
LINE_EVERY_SECONDS = 10.0


class PartitionSource(Datasource):
    """One read task for each of some partitions of a source; the task carries the partition's descriptor, no data."""

    def __init__(self, source: Source, partitions: list[tuple[int, Any]]) -> None:
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
            for number, partition in self._partitions
        ]


def _read_partition(source: Source, number: int, partition: Any) -> Iterator[pa.Table]:
    """Pickled problems and rejects, one a row."""
    items: list[bytes] = []
    size = 0
    for item in source.problems(partition):
        items.append(pickle.dumps(item))
        size += len(items[-1])
        if size >= BLOCK_BYTES:
            yield _block(number, items)
            items, size = [], 0
    yield _block(number, items)


def _block(number: int, items: list[bytes]) -> pa.Table:
    partition = pa.array([number] * len(items), pa.int32())
    return pa.table({"partition": partition, "item": pa.array(items, pa.large_binary())})


def _prepare_block(block: pa.Table, tokenizer: ray.ObjectRef, rules: Rules) -> pa.Table:
    """Problems become prepared problems; rejects pass. Beside them what the driver needs without reading them."""
    items, kinships, rows = [], [], []
    for pickled in block["item"].to_pylist():
        item = pickle.loads(pickled)
        if isinstance(item, Problem):
            prepared = prepare_problem(item, fetched(tokenizer), rules)
            items.append(pickle.dumps(prepared))
            kinships.append(pickle.dumps(prepared.kinship))
            rows.append(prepared.rows_in)
        else:
            items.append(pickled)
            kinships.append(b"")
            rows.append(item.rows)
    columns = {"item": pa.array(items, pa.large_binary()), "kinship": pa.array(kinships, pa.large_binary())}
    return pa.table({"partition": block["partition"], "rows": pa.array(rows, pa.int64()), **columns})


def prepare_store(config: PrepareJobConfig, source: Source, tokenizer: Path, path: Path) -> StoreCounts:
    """Read, clean, tokenise, place and write everything; this process must be connected to Ray.

    `tokenizer` is a resolved model directory. Raises the `WMTPError` that a task met; what was prepared until then is
    kept beside `path` for the next time, and is no store.
    """
    loaded = load_tokenizer(tokenizer)
    recipe, fingerprint = recipe_of(config), tokenizer_fingerprint(loaded)
    partitions = source.partitions()
    with _alone(path), StoreWriter(path) as writer:
        parts = Parts(parts_directory(path), resume_key(config, fingerprint), len(partitions))
        missing = parts.missing()
        if missing:
            todo = [(number, partitions[number]) for number in missing]
            _prepare_parts(config, source, todo, len(partitions), loaded, parts)
        held_out = config.held_out
        placements = place(
            list(parts.kinships()), config.near_duplicate, held_out.valid_share, held_out.test_share
        )
        counts = writer.add_all(parts.items(), placements).finish(**recipe, tokenizer_fingerprint=fingerprint)
    parts.remove()
    return counts


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process prepares the store at `path`; the lock ends with its process."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"another process is preparing {path}; wait for it, or name another store"
        ) from None
    except OSError as error:
        raise StorageError(f"cannot use {path}: {error.strerror or error}; set storage.root") from error
    try:
        yield
    finally:
        lock.release()


def move_aside(path: Path) -> None:
    """Keep the store at `path`, finished or not, under a name of its own; forget the parts of an unfinished one.
    `StorageError` where a process is preparing it."""
    with _alone(path):
        shutil.rmtree(parts_directory(path), ignore_errors=True)
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{datetime.now():%Y%m%d-%H%M%S-%f}"))


def finished_store(config: PrepareJobConfig, path: Path) -> StoreCounts:
    """What became of the rows of the finished store at `path`. Errors: those of `finished_counts`, and `ModelError`
    where there is no such tokenizer."""
    tokenizer = load_tokenizer(resolve_model(config.tokenizer, config.storage.root / "models"))
    return finished_counts(config, path, tokenizer_fingerprint(tokenizer))


def copy_to(path: Path, uri: str | None, say: Callable[[str], None]) -> None:
    """Copy the finished store at `path` to `uri`, if there is one."""
    if uri is not None:
        copied = upload(path, "store", uri)
        say(f"{'copied to' if copied else 'is already at'} {uri}")


def parts_directory(path: Path) -> Path:
    """Where the prepared parts of an unfinished store at `path` are."""
    return path.with_name(f".{path.name}.parts")


def _prepare_parts(
    config: PrepareJobConfig,
    source: Source,
    todo: list[tuple[int, Any]],
    total: int,
    tokenizer: transformers.PreTrainedTokenizerBase,
    parts: Parts,
) -> None:
    """Prepare the partitions `todo`, by number, into `parts`."""
    if not os.environ.get("WMTP_VERBOSE"):
        logging.getLogger("ray.data").setLevel(logging.ERROR)
    with _small_blocks():
        blocks = ray.data.read_datasource(
            PartitionSource(source, todo),
            num_cpus=config.cluster.cpus_per_read,
            override_num_blocks=len(todo),
        ).map_batches(
            partial(_prepare_block, tokenizer=ray.put(tokenizer), rules=rules_of(config)),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=config.cluster.cpus_per_tokenize,
        )
        progress = _Progress(total, total - len(todo))
        waiting = [number for number, _ in todo]
        with own_errors():
            for row in blocks.iter_rows():
                # Blocks come in order: when one of a part is here, all parts before it are whole or empty.
                while waiting and waiting[0] < row["partition"]:
                    _complete(parts, waiting.pop(0), progress)
                parts.append(row["partition"], row["item"], row["kinship"])
                progress.add(row["rows"])
            while waiting:
                _complete(parts, waiting.pop(0), progress)
        progress.end()


def _complete(parts: Parts, number: int, progress: _Progress) -> None:
    parts.complete(number)
    progress.part()


@contextlib.contextmanager
def _small_blocks() -> Iterator[None]:
    """Ray Data would gather a part into blocks of 128 MB, each of which one process cleans and tokenises."""
    configure_streams()
    context = ray.data.DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = BLOCK_BYTES
    try:
        yield
    finally:
        context.target_max_block_size = before


class _Progress:
    """Rows, rate, and time left by finished parts: one line, rewritten on a terminal."""

    def __init__(self, total: int, done_before: int) -> None:
        self._total, self._before, self._done = total, done_before, 0
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._started = self._printed = time.monotonic()
        self._rows = 0
        if done_before:
            self._console.print(f"{done_before} of {total} parts are there from an interrupted prepare")

    def add(self, rows: int) -> None:
        self._rows += rows
        every = 0.5 if self._console.is_terminal else LINE_EVERY_SECONDS
        if time.monotonic() - self._printed >= every:
            self._print("\r" if self._console.is_terminal else "\n")

    def part(self) -> None:
        self._done += 1

    def end(self) -> None:
        self._print("\n")

    def _print(self, end: str) -> None:
        self._printed = time.monotonic()
        seconds = self._printed - self._started
        done = self._before + self._done
        left = ""
        if self._done and done < self._total:
            wait = int(seconds / self._done * (self._total - done))
            left = f"  {wait // 60}:{wait % 60:02d} left"
        parts = f"  {done}/{self._total} parts" if self._total > 1 else ""
        self._console.print(f"{self._rows:,} rows{parts}  {self._rows / seconds:,.0f} rows/s{left}", end=end)
