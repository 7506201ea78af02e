"""CodeContests (Li et al. 2022): parquet files of the hub's layout, or the data set on the hub, streamed.

A row is a problem with all its programs, most of them in C++: programs of other languages are counted without being
read. `### Input:` shows the first public example, as the seed does. `difficulty` is the data set's class, 0 = unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wmtp_ray.data.records import Case, Problem, Reject, Solution, Tests
from wmtp_ray.data.sources.files import UNREADABLE, found_files, name_of, opened, sizes, split_named
from wmtp_ray.data.sources.hub import HubShard, hub_shards, shard_tables
from wmtp_ray.errors import DataError

LANGUAGES = ("unknown", "python2", "cpp", "python3", "java")
TEST_KINDS = ("public_tests", "private_tests", "generated_tests")
SIDES = (("solutions", True), ("incorrect_solutions", False))
COLUMNS = ("name", "description", *TEST_KINDS, "difficulty", "solutions", "incorrect_solutions")
OPTIONAL_COLUMNS = ("cf_rating", "cf_tags")
PROBLEMS_AT_ONCE = 4

Check = Callable[[pa.DataType], bool]
_ERROR_ALLOWED = re.compile(r"\b(absolute|relative)\s+(or\s+(absolute|relative)\s+)?error", re.IGNORECASE)


@dataclass(frozen=True)
class RowGroup:
    """One row group of a parquet file."""

    path: str
    number: int


@dataclass(frozen=True)
class CodeContestsSource:
    """Files (`paths`: files, directories, patterns), or splits of a data set on the hub.

    The split of a file is the one its name begins with, if it does.
    """

    paths: tuple[str, ...] = ()
    dataset: str = ""
    revision: str | None = None
    splits: tuple[str, ...] = ("train", "valid", "test")
    languages: tuple[str, ...] = ("python3",)
    tests: tuple[str, ...] = TEST_KINDS

    def partitions(self) -> list[RowGroup | HubShard]:
        """Row groups of all files, or shards. `DataError` where a file is missing, empty, or lacks a column."""
        if self.dataset:
            return [*hub_shards(self.dataset, None, self.revision, self.splits)]
        files = found_files(self.paths, (".parquet",))
        sizes(files)
        groups: list[RowGroup | HubShard] = []
        for path in files:
            if split_named(path) not in (None, *self.splits):
                continue
            with opened(path) as file:
                parquet = pq.ParquetFile(file)
                _check_columns(parquet.schema_arrow, path)
                groups += [RowGroup(path, number) for number in range(parquet.num_row_groups)]
        if not groups:
            raise DataError(
                f"{', '.join(self.paths)}: no row of split {' or '.join(self.splits)}; check source"
            )
        return groups

    def problems(self, partition: RowGroup | HubShard) -> Iterator[Problem | Reject]:
        """The problems of one partition, a few in memory at a time."""
        if isinstance(partition, HubShard):
            place = f"{partition.dataset} {partition.split}:{partition.number}"
            for table in shard_tables(partition, PROBLEMS_AT_ONCE):
                _check_columns(table.schema, place)
                yield from self._of_rows(table, partition.split, place)
            return
        with opened(partition.path) as file:
            parquet = pq.ParquetFile(file)
            there = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in parquet.schema_arrow.names]
            batches = parquet.iter_batches(PROBLEMS_AT_ONCE, row_groups=[partition.number], columns=there)
            place = f"{name_of(partition.path)}:{partition.number}"
            while (batch := _next_batch(batches, partition.path)) is not None:
                yield from self._of_rows(batch, split_named(partition.path), place)

    def _of_rows(
        self, rows: pa.Table | pa.RecordBatch, split: str | None, place: str
    ) -> Iterator[Problem | Reject]:
        for number in range(len(rows)):
            row = {name: rows.column(name)[number] for name in rows.schema.names}
            try:
                name = row["name"].as_py()
            except UnicodeDecodeError:
                name = None
            yield from self._problem(name or f"{place}, without a name", row, split)

    def _problem(self, name: str, row: dict[str, Any], split: str | None) -> Iterator[Problem | Reject]:
        sides = [(key, label, _programs(row[key])) for key, label in SIDES]
        num_rows = sum(len(languages) for _, _, (languages, _) in sides)
        try:
            if not row["name"].is_valid:
                raise ValueError("name is null")
            if not row["description"].is_valid:
                raise ValueError("description is null")
            cases = [case for kind in self.tests for case in _cases(row[kind])]
            examples = _cases(row["public_tests"])
            fields = {
                "instruction": row["description"].as_py(),
                "input": examples[0].input.strip() if examples else "",
                "difficulty": row["difficulty"].as_py() or 0,
                "cf_rating": (row["cf_rating"].as_py() or 0) if "cf_rating" in row else 0,
                "tags": tuple(tag for tag in row["cf_tags"].as_py() or () if tag) if "cf_tags" in row else (),
                "tests": Tests("stdio", tuple(cases), tolerance=_tolerance(row["description"].as_py()))
                if cases
                else None,
            }
        except ValueError as error:  # UnicodeDecodeError is one
            yield Reject(name, "bad_problem", str(error), rows=max(num_rows, 1))
            return

        others: dict[str, int] = {}
        solutions: list[Solution] = []
        for key, label, (languages, texts) in sides:
            for number, language in enumerate(languages):
                if language not in self.languages:
                    others[language] = others.get(language, 0) + 1
                    continue
                place = f"{key}[{number}]"
                try:
                    code = texts[number].as_py() if number < len(texts) else None
                except UnicodeDecodeError as error:
                    yield Reject(f"{name} {place}", "not_utf8", f"byte {error.start}: {error.reason}")
                    continue
                if code is None:
                    yield Reject(f"{name} {place}", "missing_field", "solution")
                    continue
                solutions.append(Solution(code, label, language, place))
        if others:
            detail = ", ".join(f"{language} {count}" for language, count in sorted(others.items()))
            yield Reject(name, "language", detail, rows=sum(others.values()))
        yield Problem(problem_id=name, solutions=tuple(solutions), split=split, **fields)


def _programs(side: Any) -> tuple[list[str], Sequence[Any]]:
    """Languages and texts of one side; the texts are not decoded yet."""
    if not side.is_valid or not side["language"].is_valid:
        return [], ()
    numbers = side["language"].values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    known = np.where((numbers >= 0) & (numbers < len(LANGUAGES)), numbers, 0)
    return [LANGUAGES[number] for number in known], side["solution"].values if side[
        "solution"
    ].is_valid else ()


def _cases(tests: Any) -> list[Case]:
    fields = tests.as_py() or {}
    inputs, outputs = fields.get("input") or [], fields.get("output") or []
    if len(inputs) != len(outputs) or None in inputs or None in outputs:
        raise ValueError(f"tests have {len(inputs)} inputs and {len(outputs)} outputs")
    return [Case(given, expected) for given, expected in zip(inputs, outputs, strict=True)]


def _tolerance(statement: str) -> float:
    """1e-6 where the statement allows an error, as the original judge did; 0 elsewhere."""
    return 1e-6 if _ERROR_ALLOWED.search(statement) else 0.0


def _next_batch(batches: Iterator[pa.RecordBatch], path: str) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except UNREADABLE as error:
        raise DataError(f"cannot read {path} ({error}); make it again or check source.paths") from error


def _check_columns(schema: pa.Schema, place: str) -> None:
    """`DataError` for a column that is missing or of another type."""

    def text(kind: pa.DataType) -> bool:
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)

    def whole(kind: pa.DataType) -> bool:
        return pa.types.is_integer(kind)

    def listed(inner: Check) -> Check:
        return lambda kind: (
            (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and inner(kind.value_type)
        )

    def struct(**inner: Check) -> Check:
        return lambda kind: (
            pa.types.is_struct(kind)
            and all(kind.get_field_index(n) >= 0 and check(kind.field(n).type) for n, check in inner.items())
        )

    programs = struct(language=listed(whole), solution=listed(text))
    tests = struct(input=listed(text), output=listed(text))
    wanted: dict[str, Check] = {
        "name": text,
        "description": text,
        **dict.fromkeys(TEST_KINDS, tests),
        "difficulty": whole,
        "solutions": programs,
        "incorrect_solutions": programs,
        "cf_rating": whole,
        "cf_tags": listed(text),
    }
    for name, fits in wanted.items():
        number = schema.get_field_index(name)
        if number < 0 and name in OPTIONAL_COLUMNS:
            continue
        if number < 0:
            raise DataError(f"{place} has no column {name}; it is not of CodeContests' layout")
        if not fits(schema.field(number).type):
            raise DataError(
                f"{place}: column {name} is {schema.field(number).type}, not what CodeContests has; make it again"
            )
