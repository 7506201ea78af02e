"""`metrics.jsonl`: one JSON object per optimizer step or validation, each step exactly once also after a resume.

JSON has no NaN: a value that is not finite, as the accuracy of pairs that all tie, is null in the file, NaN when read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wmtp_ray.errors import StorageError
from wmtp_ray.storage.manifest import write_bytes_atomically


class MetricsFile:
    """Appends records; opening it at step n drops what an interrupted attempt wrote beyond n (at 0: everything)."""

    def __init__(self, path: Path, steps_done: int) -> None:
        kept = [r for r in read_metrics(path) if r["step"] <= steps_done and steps_done > 0]
        write_bytes_atomically(path, "".join(_line(r) for r in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and hand it to the operating system at once; `StorageError` on a full disk."""
        with self._naming_the_file():
            self._file.write(_line(record))
            self._file.flush()

    def sync(self) -> None:
        """Have all records on the disk: no checkpoint may outlive the lines before it, not even in a power cut."""
        with self._naming_the_file():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"cannot write {self._file.name}: {error.strerror or error}; free space and run the same command"
            ) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole records of the file; a last line without its end (a killed writer) is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_record(line) for line in lines[:-1]]


TAIL_BYTES = 65_536


def last_step(path: Path) -> dict[str, Any] | None:
    """The newest whole record of an optimizer step, read from the file's end; None before the first."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")[:-1]
    for line in reversed(lines):
        if line.startswith("{") and "tokens" in (record := _record(line)):
            return record
    return None


def _line(record: dict[str, Any]) -> str:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(finite) + "\n"


def _record(line: str) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in json.loads(line).items()}
