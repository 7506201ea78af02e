"""The seed's format: `train.jsonl`, a row a line, and `train_metadata.json`, which rows are of which problem.

    {"problem_index_map": {"p1": {"difficulty": 7, "correct_indices": [0, 3], "incorrect_indices": [1],
                                  "correct_token_lengths": [...], "incorrect_token_lengths": [...]}, ...}}

An index is a line's number from 0. The lengths are left unread: the store counts its own. The metadata is held in
memory while its file is read, some 200 bytes a row.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from wmtp_ray.data.records import Problem, Reject, Solution
from wmtp_ray.data.sources.files import lines, local_bytes, name_of, sizes, split_named
from wmtp_ray.data.sources.jsonl import parse_line
from wmtp_ray.errors import DataError
from wmtp_ray.storage.filesystems import filesystem_of


class _Indices(BaseModel):
    difficulty: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    correct_indices: list[NonNegativeInt]
    incorrect_indices: list[NonNegativeInt]


class _Metadata(BaseModel):
    problem_index_map: dict[str, _Indices]


@dataclass(frozen=True)
class IndexedJsonlSource:
    """Files `NAME.jsonl` with `NAME_metadata.json` beside them; each is a partition and has the split of its name."""

    paths: tuple[str, ...]
    max_line_bytes: int = 64 << 20

    def partitions(self) -> list[str]:
        """The files. `DataError` where one, or its metadata, is missing or empty."""
        sizes(self.paths)
        sizes(tuple(metadata_path(path) for path in self.paths))
        return list(self.paths)

    def problems(self, partition: str) -> Iterator[Problem | Reject]:
        """Lines of no problem as rejects, then the problems in the order of the map.

        `DataError` where the map does not fit the file: an index past its end, on two sides, or at a line with
        another label or another problem's id.
        """
        name, metadata = name_of(partition), _read_metadata(metadata_path(partition))
        with contextlib.ExitStack() as stack:
            file = local_bytes(partition, stack)
            offsets = array("q")
            for number, offset, _ in lines(file, self.max_line_bytes):
                offsets.extend([-1] * (number - 1 - len(offsets)))  # blank lines count
                offsets.append(offset)
            unused = _check(metadata, offsets, metadata_path(partition))
            for index in unused:
                yield Reject(f"{name}:{index + 1}", "not_in_index_map")
            for problem_id, indices in metadata.items():
                yield from self._problem(problem_id, indices, file, offsets, partition)

    def _problem(
        self, problem_id: str, indices: _Indices, file: Any, offsets: array[int], path: str
    ) -> Iterator[Problem | Reject]:
        name, first = name_of(path), None
        solutions: list[Solution] = []
        sides = ((True, indices.correct_indices), (False, indices.incorrect_indices))
        for label, index in ((label, index) for label, side in sides for index in side):
            place = f"{name}:{index + 1}"
            file.seek(offsets[index])
            line = file.readline(self.max_line_bytes + 1)
            row = parse_line(
                line, place, self.max_line_bytes, {"problem_id": problem_id, "is_correct": label}
            )
            if isinstance(row, Reject):
                yield row
                continue
            for key, value in (("is_correct", label), ("problem_id", problem_id)):
                if row[key] != value:
                    raise DataError(
                        f"{place} has {key} {row[key]!r}, but {name_of(metadata_path(path))} counts it as "
                        f"{value!r} of problem {problem_id!r}; make both files again from the same rows"
                    )
            first = first or row
            if (row["instruction"], row.get("input")) != (first["instruction"], first.get("input")):
                yield Reject(
                    place, "other_statement", f"instruction or input differ from others of {problem_id}"
                )
                continue
            solutions.append(Solution(row["output"], label, row.get("language", "python3"), place))
        if first is not None:
            yield Problem(
                problem_id=problem_id,
                instruction=first["instruction"],
                input=first.get("input", ""),
                solutions=tuple(solutions),
                split=first.get("split") or split_named(path),
                difficulty=indices.difficulty,
            )


def metadata_path(path: str) -> str:
    """`data/train.jsonl.gz` → `data/train_metadata.json`."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}_metadata.json"


def _read_metadata(path: str) -> dict[str, _Indices]:
    filesystem, plain = filesystem_of(path)
    try:
        content = filesystem.cat_file(plain)
        return _Metadata.model_validate_json(content).problem_index_map
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise DataError(f"{path}: {place}: {problem['msg']}; make the metadata again") from None
    except OSError as error:
        raise DataError(f"cannot read {path} ({error}); check source.paths") from error


def _check(metadata: dict[str, _Indices], offsets: array[int], path: str) -> list[int]:
    """Indices of the lines that no problem has. `DataError` for an index without a line, or one that stands twice."""
    owner: dict[int, str] = {}
    for problem_id, indices in metadata.items():
        for index in (*indices.correct_indices, *indices.incorrect_indices):
            if index >= len(offsets) or offsets[index] < 0:
                raise DataError(
                    f"{path}: problem {problem_id!r} has index {index}, but its file has "
                    f"{len(offsets)} lines{'' if index >= len(offsets) else ' and that one is blank'}; "
                    "make both files again from the same rows"
                )
            if index in owner:
                raise DataError(
                    f"{path}: index {index} stands twice, for problems {owner[index]!r} and {problem_id!r}; "
                    "make the metadata again"
                )
            owner[index] = problem_id
    return [index for index, offset in enumerate(offsets) if offset >= 0 and index not in owner]
