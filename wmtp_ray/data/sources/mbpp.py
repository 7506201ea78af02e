"""MBPP (Austin et al. 2021), full or sanitized: 974 or 427 small problems, each with one solution and its asserts.

The asserts stand under `### Input:`, as its authors showed them to models: without them nobody could know what the
function is called. Splits are the authors' by number: 11-510 test, 511-600 valid, the others (601-974, and 1-10, their
examples for prompts) train.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wmtp_ray.data.records import Problem, Reject, Solution, Tests
from wmtp_ray.data.sources.files import local_bytes, name_of, sizes
from wmtp_ray.data.sources.hub import HubShard, hub_shards, shard_tables

LANGUAGE = "python3"


@dataclass(frozen=True)
class MbppSource:
    """`paths`: `mbpp.jsonl` or `sanitized-mbpp.json`, or `dataset` on the hub with its `configuration`."""

    paths: tuple[str, ...] = ()
    dataset: str = ""
    configuration: str = "full"
    revision: str | None = None
    splits: tuple[str, ...] = ("train", "valid", "test")

    def partitions(self) -> list[str | HubShard]:
        """Files or shards. `DataError` where one is missing or empty."""
        if self.dataset:
            return [*hub_shards(self.dataset, self.configuration, self.revision, self.splits)]
        sizes(self.paths)
        return list(self.paths)

    def problems(self, partition: str | HubShard) -> Iterator[Problem | Reject]:
        """The problems of the chosen splits, in the file's order; a row that is not MBPP's is a reject."""
        for place, row in _rows(partition):
            if isinstance(row, Reject):
                yield row
                continue
            if fault := _fault(row):
                yield Reject(place, *fault)
                continue
            problem = _problem(row)
            if problem.split in self.splits:
                yield problem


def _rows(partition: str | HubShard) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
    """(place, row); a row that is no JSON comes as a reject."""
    if isinstance(partition, HubShard):
        for table in shard_tables(partition, 64):
            for row in table.to_pylist():
                yield f"{partition.dataset} {row.get('task_id')}", row
        return
    name = name_of(partition)
    with contextlib.ExitStack() as stack:
        content = local_bytes(partition, stack).read()
    if content.lstrip().startswith(b"["):
        whole, fault = _json(content, name)
        rows = whole if isinstance(whole, list) else []
        if fault:
            yield name, fault
        for number, row in enumerate(rows, 1):
            place = f"{name}:{number}"
            yield place, row if isinstance(row, dict) else Reject(place, "bad_json", "not an object")
        return
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            place = f"{name}:{number}"
            row, fault = _json(line, place)
            yield (
                place,
                fault or (row if isinstance(row, dict) else Reject(place, "bad_json", "not an object")),
            )


def _json(content: bytes, place: str) -> tuple[Any, Reject | None]:
    try:
        return json.loads(content), None
    except UnicodeDecodeError as error:
        return None, Reject(place, "not_utf8", f"byte {error.start}: {error.reason}")
    except (ValueError, RecursionError) as error:
        return None, Reject(place, "bad_json", str(error))


def _fault(row: dict[str, Any]) -> tuple[str, str] | None:
    statement = "prompt" if "prompt" in row else "text"
    setup = "test_imports" if "prompt" in row else "test_setup_code"
    kinds = {statement: str, "code": str, "task_id": int, "test_list": list, setup: (list, str)}
    for key, kind in kinds.items():
        if row.get(key) is None:
            return "missing_field", key
        if not isinstance(row[key], kind):
            return "wrong_type", f"{key} is {type(row[key]).__name__}"
    if not row["test_list"] or not all(isinstance(test, str) for test in row["test_list"]):
        return "wrong_type", "test_list is no list of asserts"
    return None


def _problem(row: dict[str, Any]) -> Problem:
    number, tests = row["task_id"], "\n".join(row["test_list"])
    setup = "\n".join(row["test_imports"]) if "prompt" in row else row["test_setup_code"]
    return Problem(
        problem_id=f"mbpp/{number}",
        instruction=row["prompt"] if "prompt" in row else row["text"],
        input=tests,
        solutions=(Solution(row["code"], True, LANGUAGE, "code"),),
        split="test" if 11 <= number <= 510 else "valid" if 511 <= number <= 600 else "train",
        tests=Tests("assert", setup=setup, code=tests),
    )
