"""Problems with their tests, one a line of JSON: what a user has who has no solutions yet. See docs/collecting.md."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, ValidationError, model_validator

from wmtp_ray.config.base import Section
from wmtp_ray.config.prepare import Split
from wmtp_ray.data.records import Problem, Reject, Solution, Tests
from wmtp_ray.data.sources.files import lines, local_bytes, name_of, sizes

Whole = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class _Case(Section):
    input: str
    expected: str


class _Tests(Section):
    """Fields as in `wmtp_ray.data.records.Tests`."""

    kind: Literal["call", "assert", "stdio"]
    cases: tuple[_Case, ...] = ()
    setup: str = ""
    entry_point: str = ""
    code: str = ""
    tolerance: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.record.require_usable()
        return self

    @property
    def record(self) -> Tests:
        return Tests.from_json(self.model_dump_json())


class _Solution(Section):
    code: str
    is_correct: bool
    language: str = "python3"


class _Line(Section):
    problem_id: Annotated[str, Field(min_length=1)]
    instruction: str
    tests: _Tests
    input: str = ""
    solutions: tuple[_Solution, ...] = ()
    split: Split | None = None
    difficulty: Whole = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProblemLinesSource:
    """Files of JSON lines, also compressed or remote; each is a partition."""

    paths: tuple[str, ...]
    max_line_bytes: int = 64 << 20

    def partitions(self) -> list[str]:
        """The files. `DataError` where one is missing or empty."""
        sizes(self.paths)
        return list(self.paths)

    def problems(self, partition: str) -> Iterator[Problem | Reject]:
        """The problems in the file's order; a line that is none is a reject."""
        name = name_of(partition)
        with contextlib.ExitStack() as stack:
            file = local_bytes(partition, stack)
            for number, _, line in lines(file, self.max_line_bytes):
                place = f"{name}:{number}"
                if len(line) > self.max_line_bytes:
                    yield Reject(place, "line_too_long", f"more than {self.max_line_bytes} bytes")
                else:
                    yield _problem(line, place)


def _problem(line: bytes, place: str) -> Problem | Reject:
    try:
        row = _Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = {"json_invalid": "bad_json", "missing": "missing_field"}.get(first["type"], "wrong_type")
        return Reject(place, reason, f"{where}: {first['msg']}" if where else first["msg"])
    solutions = tuple(
        Solution(s.code, s.is_correct, s.language, f"{place}#{number}")
        for number, s in enumerate(row.solutions)
    )
    return Problem(
        solutions=solutions, tests=row.tests.record, **row.model_dump(exclude={"tests", "solutions"})
    )
