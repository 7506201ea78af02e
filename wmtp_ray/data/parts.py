"""What an unfinished prepare has already prepared: one pair of files for each part of the source.

A part counts once both its files have their final names, so that whatever interrupts a prepare, the next one takes up
the finished parts and does the others again.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wmtp_ray.data.prepared import Kinship, PreparedProblem
from wmtp_ray.data.records import Reject
from wmtp_ray.errors import StorageError
from wmtp_ray.storage.manifest import write_bytes_atomically


class Parts:
    """Prepared problems and rejects of `number` parts, in `directory`.

    `key` stands for everything that they depend on; parts left by a prepare of another key are removed. Raises
    `StorageError` where the disk is full or the directory cannot be used.
    """

    def __init__(self, directory: Path, key: str, number: int) -> None:
        self.directory, self.number = directory, number
        self._writing: dict[tuple[int, str], BinaryIO] = {}
        mark = directory / "key"
        try:
            if directory.exists() and (not mark.exists() or mark.read_text() != key):
                shutil.rmtree(directory)
            directory.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(mark, key.encode())
        except StorageError:
            raise
        except OSError as error:
            raise self._storage_error(error) from error

    def missing(self) -> list[int]:
        """The parts that are not finished."""
        return [part for part in range(self.number) if not self._file(part, "items").exists()]

    def append(self, part: int, item: bytes, kinship: bytes) -> None:
        """The next item of a part, pickled, and the pickled kinship of its problem (empty for a reject)."""
        try:
            for kind, content in (("items", item), ("kinship", kinship)):
                self._opened(part, kind).write(content)
        except OSError as error:
            raise self._storage_error(error) from error

    def complete(self, part: int) -> None:
        """Everything of a part has been appended, which may be nothing."""
        try:
            for kind in ("kinship", "items"):  # items last: they say that both are whole
                with self._opened(part, kind) as file:
                    file.flush()
                    os.fsync(file.fileno())
                self._file(part, f"{kind}.unfinished").rename(self._file(part, kind))
                del self._writing[part, kind]
        except OSError as error:
            raise self._storage_error(error) from error

    def kinships(self) -> Iterator[Kinship]:
        """Of all problems, in the order of `items`."""
        for part in range(self.number):
            yield from _unpickled(self._file(part, "kinship"))

    def items(self) -> Iterator[PreparedProblem | Reject]:
        """Everything, in the source's order."""
        for part in range(self.number):
            yield from _unpickled(self._file(part, "items"))

    def remove(self) -> None:
        """Give the room back."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _file(self, part: int, kind: str) -> Path:
        return self.directory / f"{part:06d}.{kind}"

    def _opened(self, part: int, kind: str) -> BinaryIO:
        if (part, kind) not in self._writing:
            self._writing[part, kind] = self._file(part, f"{kind}.unfinished").open("wb")
        return self._writing[part, kind]

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(
            f"cannot write {self.directory}: {error.strerror or error}; free space or set storage.root"
        )


def _unpickled(path: Path) -> Iterator:
    with path.open("rb") as file:
        while file.peek(1):
            yield pickle.load(file)
