"""JSON lines: a labelled program each, `{instruction, input, output, problem_id, is_correct, difficulty?}`.

The lines of a problem may stand anywhere in the files. A first pass checks every line and notes where those
of each problem are (24 bytes a row in memory); a second reads problem by problem. A line that cannot be used
becomes a reject.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from wmtp_ray.data.records import Problem, Reject, Solution
from wmtp_ray.data.sources.files import lines, local_bytes, name_of, sizes
from wmtp_ray.errors import DataError

REQUIRED: dict[str, type] = {"instruction": str, "output": str, "problem_id": str, "is_correct": bool}
OPTIONAL: dict[str, type] = {"input": str, "difficulty": int, "split": str, "language": str}


@dataclass(frozen=True)
class JsonlSource:
    """Files of JSON lines, also compressed (.gz, .bz2, .xz, .zst) or remote (`s3://...`).

    All files together are one partition, since a problem's lines may lie in several.
    """

    paths: tuple[str, ...]
    max_line_bytes: int = 64 << 20

    def partitions(self) -> list[tuple[str, ...]]:
        """One: all files. `DataError` where one is missing or empty."""
        sizes(self.paths)
        return [self.paths]

    def problems(self, partition: tuple[str, ...]) -> Iterator[Problem | Reject]:
        """Rejects as they are met, then every problem, whole, in order of first appearance."""
        with contextlib.ExitStack() as stack:
            files = [local_bytes(path, stack) for path in partition]
            names = [name_of(path) for path in partition]
            places: dict[str, array[int]] = {}
            for number, (file, name) in enumerate(zip(files, names, strict=True)):
                for line_number, offset, line in lines(file, self.max_line_bytes):
                    row = parse_line(line, f"{name}:{line_number}", self.max_line_bytes)
                    if isinstance(row, Reject):
                        yield row
                    else:
                        at = places.setdefault(row["problem_id"], array("q"))
                        at.extend((number, line_number, offset))
            for problem_id, at in places.items():
                rows = [
                    read_line_at(files[n], f"{names[n]}:{line_number}", offset)
                    for n, line_number, offset in zip(at[::3], at[1::3], at[2::3], strict=True)
                ]
                yield from _problem(problem_id, rows)


def _problem(problem_id: str, rows: list[tuple[str, dict[str, Any]]]) -> Iterator[Problem | Reject]:
    """One problem from its rows (place, fields); rows that contradict the first are rejected."""
    _, first = rows[0]
    solutions = []
    for place, row in rows:
        same = all(row.get(key) == first.get(key) for key in ("instruction", "input", "split"))
        if not same:
            yield Reject(place, "other_statement", f"instruction, input or split differ from {rows[0][0]}")
            continue
        solutions.append(
            Solution(
                code=row["output"],
                is_correct=row["is_correct"],
                language=row.get("language", "python3"),
                provenance=place,
            )
        )
    yield Problem(
        problem_id=problem_id,
        instruction=first["instruction"],
        input=first.get("input", ""),
        solutions=tuple(solutions),
        split=first.get("split"),
        difficulty=next((d for _, row in rows if (d := row.get("difficulty", 0))), 0),
    )


def parse_line(
    line: bytes, place: str, max_bytes: int, otherwise: dict[str, Any] | None = None
) -> dict[str, Any] | Reject:
    """The fields of one line, those that are null left out, or why it cannot be used.

    `otherwise`: what fields that are not there, or null, are taken to be.
    """
    if len(line) > max_bytes:
        return Reject(place, "line_too_long", f"more than {max_bytes} bytes")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reject(place, "not_utf8", f"byte {error.start}: {error.reason}")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: broken JSON, or a number of 5,000 digits
        return Reject(place, "bad_json", str(error))
    if not isinstance(row, dict):
        return Reject(place, "bad_json", f"a {type(row).__name__}, not an object")
    row = {**(otherwise or {}), **{key: value for key, value in row.items() if value is not None}}
    if isinstance(row.get("problem_id"), int) and not isinstance(row["problem_id"], bool):
        row["problem_id"] = str(row["problem_id"])
    for key, kind in (REQUIRED | OPTIONAL).items():
        if key not in row:
            if key in REQUIRED:
                return Reject(place, "missing_field", key)
        elif not isinstance(row[key], kind) or (kind is int and isinstance(row[key], bool)):
            return Reject(place, "wrong_type", f"{key} is {type(row[key]).__name__}, not {kind.__name__}")
    if not -(2**31) <= row.get("difficulty", 0) < 2**31:
        return Reject(place, "wrong_type", f"difficulty {row['difficulty']} is out of range")
    if row.get("split", "train") not in ("train", "valid", "test"):
        return Reject(place, "wrong_type", f"split is {row['split']!r}, not train, valid or test")
    return row


def read_line_at(file: BinaryIO, place: str, offset: int) -> tuple[str, dict[str, Any]]:
    """Place and fields of the line at `offset`, which was found good before."""
    file.seek(offset)
    row = parse_line(file.readline(), place, 1 << 62)
    if isinstance(row, Reject):
        raise DataError(f"{place} changed while it was read ({row.reason}); prepare again")
    return place, row
