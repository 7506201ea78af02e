"""Files of a source, on any file system of fsspec or of pyarrow: local, `s3://`, `gs://`, `hf://`, `memory://`, ..."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileOpener

from wmtp_ray.errors import DataError
from wmtp_ray.storage.filesystems import UNREADABLE, filesystem_of


def found_files(paths: tuple[str, ...], suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """The files that `paths` name: themselves, those with one of `suffixes` directly inside a directory, or those that
    match a pattern (`*`, `?`, `[`), sorted. `DataError` where a path names none."""
    found: list[str] = []
    for path in paths:
        filesystem, plain = filesystem_of(path)
        try:
            if any(sign in plain for sign in "*?["):
                files = filesystem.glob(plain)
            elif filesystem.isdir(plain):
                files = [name for name in filesystem.ls(plain, detail=False) if name.endswith(suffixes)]
            else:
                found.append(path)
                continue
        except OSError as error:
            raise DataError(f"cannot list {path} ({error}); check source.paths") from error
        if not files:
            raise DataError(f"{path} names no file ({' or '.join(suffixes)}); check source.paths")
        found += [filesystem.unstrip_protocol(str(name)) for name in sorted(files)]
    return tuple(found)


def sizes(paths: tuple[str, ...]) -> list[int]:
    """Bytes of each file; `DataError` for one that is missing or empty."""
    return [_size(path) for path in paths]


def _size(path: str) -> int:
    filesystem, plain = filesystem_of(path)
    try:
        size = filesystem.size(plain)
    except UNREADABLE as error:
        raise DataError(f"cannot open {path} ({error}); check source.paths") from error
    if not size:
        raise DataError(f"{path} is empty; remove it from source.paths or make it again")
    return int(size)


def state_of(path: str) -> str:
    """Changes when the file does: its size, and time or tag where the file system has one."""
    filesystem, plain = filesystem_of(path)
    information: dict[str, Any] = filesystem.info(plain)
    return str([information.get(key) for key in ("size", "mtime", "ETag", "etag", "LastModified")])


def name_of(path: str) -> str:
    """The last part of a path or URI."""
    return PurePosixPath(path.partition("?")[0]).name


def split_named(path: str) -> str | None:
    """The split that a file's name begins with, as hubs name them (`valid-00000-of-00001.parquet`), or None."""
    stem = name_of(path).partition(".")[0].partition("-")[0].partition("_")[0]
    return {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}.get(stem)


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file's bytes as they are, to seek in; `DataError` where it cannot be read, also later in the block."""
    filesystem, plain = filesystem_of(path)
    try:
        with filesystem.open(plain, "rb") as file:
            yield file  # type: ignore[misc]
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path} ({error}); make it again or check source.paths") from error


def local_bytes(path: str, stack: contextlib.ExitStack) -> BinaryIO:
    """The file's bytes as a local, uncompressed, seekable file: itself, or a temporary copy."""
    filesystem, plain = filesystem_of(path)
    try:
        file = stack.enter_context(filesystem.open(plain, "rb", compression="infer"))
        if isinstance(file, LocalFileOpener):
            return stack.enter_context(Path(plain).open("rb"))
        copy = stack.enter_context(tempfile.TemporaryFile(prefix="wmtp-lines-"))  # noqa: SIM115 - the stack closes it
        shutil.copyfileobj(file, copy, 1 << 20)  # type: ignore[arg-type]
        copy.seek(0)
        return copy  # type: ignore[return-value]
    except UNREADABLE as error:
        raise DataError(f"cannot read {path} ({error}); check source.paths") from error


def lines(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, offset, line) of every line that is not blank; one too long comes cut, a byte over."""
    number = offset = 0
    while line := file.readline(max_bytes + 1):
        number += 1
        start, offset = offset, offset + len(line)
        rest = line
        while len(rest) > max_bytes and not rest.endswith(b"\n"):
            rest = file.readline(max_bytes + 1)
            offset += len(rest)
        if number == 1:
            start, line = (3, line[3:]) if line.startswith(b"\xef\xbb\xbf") else (start, line)
        if line.strip():
            yield number, start, line
