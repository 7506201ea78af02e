"""Manifests: a directory counts as complete once its `manifest.json`, written last, lists the hash of every file in it.

Object stores have no rename, and a killed process leaves half a directory, so nothing else may say "complete".
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from wmtp_ray.errors import StorageError

MANIFEST_NAME = "manifest.json"


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 (hex) of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int
    sha256: str


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} does not lie below the manifest's directory")
    return name


class Manifest(BaseModel):
    """What a complete directory holds.

    `kind` says what the directory is ("store", "checkpoint", ...), `facts` whatever its writer wants to record (JSON
    values), `files` every file by its path below the directory, and `fingerprint` the hash over kind, facts and
    files: equal fingerprints mean equal content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    facts: dict[str, Any]
    files: dict[Annotated[str, AfterValidator(_inside)], FileEntry]
    fingerprint: str


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have a file's content, or a directory's names, on the disk and not only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` is afterwards either the old file or the whole new one, also after a power cut."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free space or change storage.root"
        ) from error


def _files_below(directory: Path) -> dict[str, FileEntry]:
    paths = sorted(p for p in directory.rglob("*") if p.is_file() and p != directory / MANIFEST_NAME)
    return {
        p.relative_to(directory).as_posix(): FileEntry(bytes=p.stat().st_size, sha256=sha256_of_file(p))
        for p in paths
    }


def _fingerprint(kind: str, facts: dict[str, Any], files: dict[str, FileEntry]) -> str:
    content = {"kind": kind, "facts": facts, "files": {name: entry.sha256 for name, entry in files.items()}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_manifest(directory: Path, kind: str, **facts: Any) -> Manifest:
    """Declare `directory` complete: every file below it is on the disk and hashed, and only then is `manifest.json`
    written, atomically: not even a power cut leaves a manifest without its files. `OSError` where the disk fails."""
    files = _files_below(directory)
    for folder in {(directory / name).parent for name in files} | {directory}:
        _sync(folder)
    for name in files:
        _sync(directory / name)
    manifest = Manifest(kind=kind, facts=facts, files=files, fingerprint=_fingerprint(kind, facts, files))
    write_bytes_atomically(directory / MANIFEST_NAME, manifest.model_dump_json(indent=1).encode())
    return manifest


def read_manifest(directory: Path, kind: str) -> Manifest:
    """The manifest of a complete directory; `StorageError` where there is none, or one of another kind."""
    path = directory / MANIFEST_NAME
    if not path.is_file():
        state = "is incomplete (no manifest.json)" if directory.is_dir() else "does not exist"
        raise StorageError(f"{kind} {directory} {state}; make it again")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StorageError(
            f"{path} is not a manifest ({error.error_count()} errors); make the {kind} again"
        ) from error
    if manifest.kind != kind:
        raise StorageError(f"{directory} is a {manifest.kind}, not a {kind}; name another directory")
    return manifest


def verify_manifest(directory: Path, kind: str) -> Manifest:
    """`read_manifest`, and every file has the size and hash recorded; `StorageError` names the first that differs."""
    manifest = read_manifest(directory, kind)
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise StorageError(f"{kind} {directory}: {name} is missing; make the {kind} again")
        if path.stat().st_size != entry.bytes or sha256_of_file(path) != entry.sha256:
            raise StorageError(
                f"{kind} {directory}: {name} changed since its manifest; make the {kind} again"
            )
    if _fingerprint(manifest.kind, manifest.facts, manifest.files) != manifest.fingerprint:
        raise StorageError(
            f"{directory / MANIFEST_NAME} was edited (its fingerprint differs); make the {kind} again"
        )
    return manifest
