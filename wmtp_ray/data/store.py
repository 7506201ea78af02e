"""A solution store: labelled programs addressed by row number, metadata by problem.

Text stays on disk, memory-mapped through `datasets`, so reading k of n rows costs O(k).
`wmtp_ray.data.writer` writes stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from wmtp_ray.data.index import SPLITS, ProblemIndex
from wmtp_ray.data.records import Problem, Solution, Tests
from wmtp_ray.data.writer import LAYOUT
from wmtp_ray.errors import DataError, StorageError
from wmtp_ray.storage.manifest import Manifest, read_manifest, verify_manifest
from wmtp_ray.storage.remote import copy_path, download, is_remote

COPIES = Path("cache", "stores")
"""Below the storage root: local copies of stores that are named by a URI."""


@dataclass(frozen=True)
class Row:
    """One labelled program with its problem's statement. `mutated_span`: half-open, in `output`."""

    row: int
    problem_id: str
    instruction: str
    input: str
    output: str
    is_correct: bool
    mutated_span: tuple[int, int] | None
    provenance: str


@dataclass(frozen=True)
class StoredProblem:
    """One problem without its solutions. `number` is its place in the index."""

    number: int
    problem_id: str
    split: str
    instruction: str
    input: str
    difficulty: int
    tags: tuple[str, ...]
    tests: Tests | None


class SolutionStore:
    """A complete store on disk; made by `SolutionStore.open`. Sent to another process, it reopens there."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str, check: Literal["hashes", "sizes"] = "hashes") -> SolutionStore:
        """The store at `path`.

        Its files must be those of its manifest: by hash (reads every byte once), or by size only, where
        another process of the same run has checked the hashes. Raises `StorageError`.
        """
        path = Path(path)
        manifest = verify_manifest(path, "store") if check == "hashes" else read_manifest(path, "store")
        for name, entry in manifest.files.items():
            if not (path / name).is_file() or (path / name).stat().st_size != entry.bytes:
                raise StorageError(f"store {path}: {name} changed since its manifest; prepare it again")
        if manifest.facts.get("layout") != LAYOUT:
            raise StorageError(
                f"store {path} has layout {manifest.facts.get('layout')}, this version reads {LAYOUT}; "
                "prepare it again"
            )
        return cls(path, manifest)

    @classmethod
    def named(cls, root: Path, store: str) -> SolutionStore:
        """The store that a configuration names: below the storage root, or at a URI, of which a local copy is made.

        Raises `StorageError` where there is none, and what `open` raises.
        """
        if is_remote(store):
            return cls.open(
                download(store, "store", root / COPIES), "sizes"
            )  # the copy's hashes were checked
        path = store_path(root, store)
        if not path.is_dir():
            raise StorageError(
                f"no store {path}; make it with jobs/prepare.py (name: {store}), or name another"
            )
        return cls.open(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return SolutionStore.open, (self.path, "sizes")

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean equal content."""
        return self.manifest.fingerprint

    @property
    def tokenizer_fingerprint(self) -> str:
        """Of the tokenizer that counted the lengths in the index."""
        return self.manifest.facts["tokenizer_fingerprint"]

    @property
    def max_length(self) -> int:
        """The length that samples are truncated to; the index counts on it."""
        return self.manifest.facts["max_length"]

    def __len__(self) -> int:
        return self.manifest.facts["counts"]["rows_kept"]

    @cached_property
    def index(self) -> ProblemIndex:
        """Lengths, labels and problems of all rows, in memory."""
        rows = pq.read_table(self.path / "rows.parquet")
        problems = pq.read_table(self.path / "problems.parquet").combine_chunks()

        def column(table: pa.Table, name: str) -> np.ndarray:
            return table[name].to_numpy()

        return ProblemIndex(
            problem_ids=pa.concat_arrays(problems["problem_id"].chunks),
            split=column(problems, "split"),
            difficulty=column(problems, "difficulty"),
            cf_rating=column(problems, "cf_rating"),
            tags=pa.concat_arrays(problems["tags"].chunks),
            cluster=column(problems, "cluster"),
            row_problem=column(rows, "problem"),
            row_correct=column(rows, "is_correct"),
            row_tokens=column(rows, "tokens"),
            row_targets=column(rows, "targets"),
        )

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Row]:
        """The rows with these numbers, in this order. `DataError` for a number the store does not have."""
        numbers = np.asarray(rows, dtype=np.int64)
        if numbers.size == 0:
            return []
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise DataError(
                f"store {self.path} has rows 0..{len(self) - 1}, not {numbers.min()}..{numbers.max()}; "
                "was the plan made for another store?"
            )
        problems, which = np.unique(self.index.row_problem[numbers], return_inverse=True)
        statements = _gather(self._problem_text, problems)
        problem_ids = self.index.problem_ids.take(pa.array(problems)).to_pylist()
        texts = _gather(self._row_text, numbers)
        correct = self.index.row_correct[numbers]
        return [
            Row(
                row=int(numbers[i]),
                problem_id=problem_ids[p],
                instruction=statements["instruction"][p],
                input=statements["input"][p],
                output=texts["output"][i],
                is_correct=bool(correct[i]),
                mutated_span=None if start is None else (start, texts["mutated_end"][i]),
                provenance=texts["provenance"][i],
            )
            for i, (p, start) in enumerate(zip(which, texts["mutated_start"], strict=True))
        ]

    def problems(self, split: str) -> list[StoredProblem]:
        """All problems of one split, in the order of the store."""
        return self._stored_problems(np.flatnonzero(self.index.in_split(split)))

    def whole_problems(self, first: int, last: int) -> list[Problem]:
        """The problems numbered first ≤ n < last as a source yields them, each with all its rows."""
        index = self.index
        begin, end = np.searchsorted(index.row_problem, [first, last])
        text = _gather(self._row_text, np.arange(begin, end))
        solutions: list[list[Solution]] = [[] for _ in range(last - first)]
        for i, row in enumerate(range(begin, end)):
            start = text["mutated_start"][i]
            solutions[index.row_problem[row] - first].append(
                Solution(
                    code=text["output"][i],
                    is_correct=bool(index.row_correct[row]),
                    language=text["language"][i],
                    provenance=text["provenance"][i],
                    mutated_span=None if start is None else (start, text["mutated_end"][i]),
                )
            )
        return [
            Problem(
                problem_id=stored.problem_id,
                instruction=stored.instruction,
                solutions=tuple(solutions[stored.number - first]),
                input=stored.input,
                split=stored.split,
                difficulty=stored.difficulty,
                cf_rating=int(index.cf_rating[stored.number]),
                tags=stored.tags,
                tests=stored.tests,
            )
            for stored in self._stored_problems(np.arange(first, last))
        ]

    def _stored_problems(self, numbers: np.ndarray) -> list[StoredProblem]:
        if numbers.size == 0:
            return []
        text = _gather(self._problem_text, numbers)
        index = self.index
        return [
            StoredProblem(
                number=int(number),
                problem_id=index.problem_ids[int(number)].as_py(),
                split=SPLITS[index.split[number]],
                instruction=text["instruction"][i],
                input=text["input"][i],
                difficulty=int(index.difficulty[number]),
                tags=tuple(index.tags[int(number)].as_py()),
                tests=None if text["tests"][i] is None else Tests.from_json(text["tests"][i]),
            )
            for i, number in enumerate(numbers)
        ]

    @cached_property
    def _row_text(self) -> Dataset:
        return Dataset.from_file(str(self.path / "rows.arrow")).with_format("arrow")

    @cached_property
    def _problem_text(self) -> Dataset:
        return Dataset.from_file(str(self.path / "problems.arrow")).with_format("arrow")


def store_path(root: Path, store: str) -> Path:
    """Where the store that a configuration names is, or its local copy belongs. Reads no more than a manifest."""
    return copy_path(store, "store", root / COPIES) if is_remote(store) else root / "stores" / store


def _gather(text: Dataset, numbers: np.ndarray) -> dict[str, list[Any]]:
    return text[numbers.tolist()].to_pydict()  # type: ignore[union-attr]
