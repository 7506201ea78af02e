"""Write a solution store: one pass over prepared problems in flat memory, complete with its manifest."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wmtp_ray.data.counts import StoreCounts
from wmtp_ray.data.index import SPLITS
from wmtp_ray.data.prepared import PreparedProblem, Rules, prepare_problem
from wmtp_ray.data.records import Problem, Reject
from wmtp_ray.data.splits import Placement, place
from wmtp_ray.errors import DataError, StorageError
from wmtp_ray.storage.manifest import MANIFEST_NAME, write_manifest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LAYOUT = 3
"""Version of the files below; a store of another layout is refused."""

ROW_TEXT = pa.schema(
    [
        ("output", pa.string()),
        ("language", pa.string()),
        ("provenance", pa.string()),
        ("mutated_start", pa.int32()),
        ("mutated_end", pa.int32()),
    ]
)
PROBLEM_TEXT = pa.schema([("instruction", pa.string()), ("input", pa.string()), ("tests", pa.string())])
ROW_INDEX = pa.schema(
    [
        ("problem", pa.int32()),
        ("is_correct", pa.bool_()),
        ("tokens", pa.int32()),
        ("targets", pa.int32()),
        ("cluster", pa.int32()),  # number of the first row of its near-duplicates; they are of one problem
    ]
)
PROBLEM_INDEX = pa.schema(
    [
        ("problem_id", pa.string()),
        ("split", pa.int8()),
        ("difficulty", pa.int32()),
        ("cf_rating", pa.int32()),
        ("tags", pa.list_(pa.string())),
        ("cluster", pa.int32()),  # number of the first problem of its near-duplicates
    ]
)

_UNFINISHED = "UNFINISHED"
_OWN_FILES = ("*.arrow", "*.parquet", "rejects.jsonl", _UNFINISHED)


class _Buffered:
    """Columns that go to a file as record batches of about `max_rows` rows or `max_bytes` of text."""

    def __init__(self, schema: pa.Schema, sink: Any, max_rows: int, max_bytes: int = 1 << 23) -> None:
        self._schema, self._sink = schema, sink
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._columns: list[list[Any]] = [[] for _ in schema]
        self._bytes = 0

    def extend(self, *columns: Sequence[Any]) -> None:
        for column, values in zip(self._columns, columns, strict=True):
            column.extend(values)
            if values and isinstance(values[0], str):
                self._bytes += sum(map(len, values))
        if len(self._columns[0]) >= self._max_rows or self._bytes >= self._max_bytes:
            self.flush()

    def flush(self) -> None:
        if self._columns[0]:
            self._sink.write_batch(pa.record_batch(self._columns, schema=self._schema))
            self._columns = [[] for _ in self._schema]
            self._bytes = 0


class StoreWriter:
    """Writes prepared problems to `path`; a context manager. `finish` makes it a store, by its manifest.

    Files: `rows.arrow` and `problems.arrow` (text, Arrow streams for memory mapping), `rows.parquet` and
    `problems.parquet` (the index), `rejects.jsonl`. Left without `finish`, the directory has no manifest and
    is refused as a store; the next writer clears it.

    Raises `StorageError` where `path` holds a finished store or foreign files, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = ExitStack()
        self._reasons: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._cluster_numbers: dict[int, int] = {}
        self._rows_in = self._rows_kept = self._rows_correct = self._rows_truncated = 0
        self._problems_in = self._problems_kept = self._problems_with_both = 0
        self._rows_near_duplicate = self._problems_near_duplicate = 0

    def __enter__(self) -> StoreWriter:
        _clear(self.path)
        try:
            self._row_text = self._stream("rows.arrow", ROW_TEXT, 1024)
            self._problem_text = self._stream("problems.arrow", PROBLEM_TEXT, 256)
            self._row_index = self._parquet("rows.parquet", ROW_INDEX, 1 << 17)
            self._problem_index = self._parquet("problems.parquet", PROBLEM_INDEX, 1 << 14)
            self._rejects = self._files.enter_context(
                (self.path / "rejects.jsonl").open("w", encoding="utf-8")
            )
        except OSError as error:
            raise self._storage_error(error) from error
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._files.close()
        except OSError as error:
            if kind is None:
                raise self._storage_error(error) from error
            # The error on its way out is the first one; closing the same full disk adds nothing to it.

    def add_all(
        self, items: Iterable[PreparedProblem | Reject], placements: Iterable[Placement]
    ) -> StoreWriter:
        """Everything, with the placements of the problems among it."""
        next_placement = iter(placements)
        for item in items:
            self.add(item, None if isinstance(item, Reject) else next(next_placement))
        return self

    def add(self, item: PreparedProblem | Reject, placement: Placement | None = None) -> None:
        """The next problem, or rows of the source that never became solutions.

        Without a `placement` a problem has the split of its source, else `train`, and no near-duplicates.
        """
        try:
            if isinstance(item, Reject):
                self._rows_in += item.rows
                self._reject(item)
            else:
                self._add_problem(item, placement)
        except OSError as error:
            raise self._storage_error(error) from error

    def finish(self, **facts: Any) -> StoreCounts:
        """Flush everything, check that the counts add up, write the manifest with `facts` and the counts."""
        counts = StoreCounts(
            rows_in=self._rows_in,
            rows_kept=self._rows_kept,
            rows_correct=self._rows_correct,
            rows_truncated=self._rows_truncated,
            problems_in=self._problems_in,
            problems_kept=self._problems_kept,
            problems_with_both=self._problems_with_both,
            rows_near_duplicate=self._rows_near_duplicate,
            problems_near_duplicate=self._problems_near_duplicate,
            rejected=dict(sorted(self._reasons.items())),
        )
        assert counts.rows_in == counts.rows_kept + sum(counts.rejected.values()), counts
        if not counts.rows_kept:
            raise DataError(
                f"no row was kept for {self.path}: {counts.line()}; see {self.path / 'rejects.jsonl'}"
            )
        try:
            for buffered in (self._row_text, self._problem_text, self._row_index, self._problem_index):
                buffered.flush()
            self._files.close()
            (self.path / _UNFINISHED).unlink()
        except OSError as error:
            raise self._storage_error(error) from error
        write_manifest(self.path, "store", layout=LAYOUT, counts=asdict(counts), **facts)
        return counts

    def _add_problem(self, item: PreparedProblem, placement: Placement | None) -> None:
        problem, number = item.problem, self._problems_kept
        placement = placement or Placement(problem.split or "train", -1 - number)
        self._problems_in += 1
        self._rows_in += item.rows_in
        for reject in item.rejects:
            self._reject(reject)
        if not problem.solutions and problem.tests is None:
            return
        if problem.problem_id in self._seen:
            self._reject_problem(problem, "problem_came_twice")
            return
        if placement.leaks:
            self._reject_problem(problem, "nearly_held_out", placement.leaks)
            return
        if placement.split not in SPLITS:
            raise DataError(
                f"problem {problem.problem_id}: split {placement.split!r} is none of {', '.join(SPLITS)}"
            )
        self._seen.add(problem.problem_id)
        cluster = self._cluster_numbers.setdefault(placement.cluster, number)
        tests = problem.tests.to_json() if problem.tests else None
        self._problem_text.extend([problem.instruction], [problem.input], [tests])
        self._problem_index.extend(
            [problem.problem_id],
            [SPLITS.index(placement.split)],
            [problem.difficulty],
            [problem.cf_rating],
            [list(problem.tags)],
            [cluster],
        )
        solutions = problem.solutions
        spans = [solution.mutated_span or (None, None) for solution in solutions]
        labels = [solution.is_correct for solution in solutions]
        self._row_text.extend(
            [solution.code for solution in solutions],
            [solution.language for solution in solutions],
            [solution.provenance for solution in solutions],
            [start for start, _ in spans],
            [end for _, end in spans],
        )
        self._row_index.extend(
            [number] * len(solutions),
            labels,
            item.tokens.tolist(),
            item.targets.tolist(),
            (item.clusters + self._rows_kept).tolist(),
        )
        self._problems_kept += 1
        self._problems_near_duplicate += cluster != number
        self._problems_with_both += len(set(labels)) == 2
        self._rows_kept += len(solutions)
        self._rows_correct += sum(labels)
        self._rows_truncated += item.truncated
        self._rows_near_duplicate += int((item.clusters != np.arange(len(solutions))).sum())

    def _reject_problem(self, problem: Problem, reason: str, detail: str = "") -> None:
        for number in range(len(problem.solutions)):
            self._reject(Reject(f"{problem.problem_id}#{number}", reason, detail))
        if not problem.solutions:
            self._reject(Reject(problem.problem_id, reason, detail, rows=0))

    def _reject(self, reject: Reject) -> None:
        if reject.rows:
            self._reasons[reject.reason] += reject.rows
        self._rejects.write(reject.to_json() + "\n")

    def _stream(self, name: str, schema: pa.Schema, max_rows: int) -> _Buffered:
        sink = self._files.enter_context(pa.OSFile(str(self.path / name), "wb"))
        return _Buffered(schema, self._files.enter_context(pa.ipc.new_stream(sink, schema)), max_rows)

    def _parquet(self, name: str, schema: pa.Schema, max_rows: int) -> _Buffered:
        sink = self._files.enter_context(pq.ParquetWriter(self.path / name, schema, compression="zstd"))
        return _Buffered(schema, sink, max_rows)

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(
            f"cannot write store {self.path}: {error.strerror or error}; free space or set storage.root"
        )


def write_store(
    path: Path,
    problems: Iterable[Problem | Reject],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    source: Any,
    tokenizer_fingerprint: str,
    valid_share: float = 0.0,
    test_share: float = 0.0,
    **rules: Any,
) -> StoreCounts:
    """Prepare and write `problems` in this process and its memory. `source`: what the manifest says of it;
    `rules`: fields of `Rules`."""
    chosen = Rules(max_length, **rules)
    with StoreWriter(path) as writer:
        items = [
            prepare_problem(item, tokenizer, chosen) if isinstance(item, Problem) else item
            for item in problems
        ]
        kinships = [item.kinship for item in items if isinstance(item, PreparedProblem)]
        writer.add_all(items, place(kinships, chosen.near_duplicate, valid_share, test_share))
        return writer.finish(
            source=source, tokenizer_fingerprint=tokenizer_fingerprint, max_length=max_length
        )


def _clear(path: Path) -> None:
    """Make `path` an empty directory with an `UNFINISHED` mark; deletes only an unfinished writer's files."""
    try:
        if (path / MANIFEST_NAME).exists():
            raise StorageError(
                f"{path} holds a finished directory; name another store, or move it aside (--fresh)"
            )
        if path.exists() and any(path.iterdir()):
            own = {file for pattern in _OWN_FILES for file in path.glob(pattern)}
            foreign = sorted(set(path.iterdir()) - own)
            if foreign or path / _UNFINISHED not in own:
                raise StorageError(
                    f"{path} holds files that are no store's ({foreign or own}); name another store"
                )
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / _UNFINISHED).touch()
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot use {path}: {error.strerror or error}; set storage.root") from error
