"""Complete directories on other file systems: uploaded manifest last, downloaded once into a cache.

An object store has no rename, so there, too, a directory exists once its `manifest.json` does.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
from filelock import FileLock
from pydantic import ValidationError

from wmtp_ray.errors import StorageError
from wmtp_ray.storage.filesystems import UNREADABLE, filesystem_of
from wmtp_ray.storage.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_manifest


def is_remote(name: str) -> bool:
    """Whether `name` is a URI (`s3://bucket/stores/contests`) and not a name or a path."""
    return "://" in name


def upload(directory: Path, kind: str, uri: str) -> bool:
    """Copy a complete directory to `uri`; False where it is there already.

    Raises `StorageError` where another directory is at `uri`, which is never overwritten, or the copy fails; what a
    failed copy leaves has no manifest and is written over by the next.
    """
    manifest = read_manifest(directory, kind)
    filesystem, plain = _place(uri)
    try:
        if filesystem.exists(f"{plain}/{MANIFEST_NAME}"):
            there = _remote_manifest(filesystem, plain, uri, kind)
            if there.fingerprint != manifest.fingerprint:
                raise StorageError(
                    f"{uri} holds another {kind} ({there.fingerprint[:12]}, not {manifest.fingerprint[:12]}); "
                    "name another place, or remove it"
                )
            return False
        for name in (*manifest.files, MANIFEST_NAME):
            filesystem.makedirs(f"{plain}/{name}".rpartition("/")[0], exist_ok=True)
            filesystem.put_file(str(directory / name), f"{plain}/{name}")
    except UNREADABLE as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write {uri} ({error}); check the address and its permissions") from error
    return True


def download(uri: str, kind: str, cache: Path) -> Path:
    """The local copy of the directory at `uri`, made where it is not there yet, with every hash checked.

    Raises `StorageError` where nothing complete is at `uri`, it cannot be read, or the copy differs.
    """
    directory = copy_path(uri, kind, cache)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{directory.name}.lock"):
            if not (directory / MANIFEST_NAME).exists():
                _copy(uri, kind, directory)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot copy {uri} to {directory}: {error.strerror or error}; free space or set storage.root"
        ) from error
    return directory


def copy_path(uri: str, kind: str, cache: Path) -> Path:
    """Where the local copy of what is now at `uri` belongs: another content has another place."""
    filesystem, plain = _place(uri)
    manifest = _remote_manifest(filesystem, plain, uri, kind)
    return cache / f"{plain.rpartition('/')[2]}-{manifest.fingerprint[:16]}"


def _copy(uri: str, kind: str, directory: Path) -> None:
    """Into a directory of its own, which gets its name when it is whole and verified."""
    filesystem, plain = _place(uri)
    unfinished = directory.with_name(f".{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in (*_remote_manifest(filesystem, plain, uri, kind).files, MANIFEST_NAME):
        (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            filesystem.get_file(f"{plain}/{name}", str(unfinished / name))
        except FileNotFoundError as error:
            raise StorageError(f"{kind} {uri}: {name} is missing; upload it again") from error
    verify_manifest(unfinished, kind)
    shutil.rmtree(directory, ignore_errors=True)
    unfinished.rename(directory)


def _place(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    filesystem, plain = filesystem_of(uri)
    return filesystem, plain.rstrip("/")


def _remote_manifest(filesystem: fsspec.AbstractFileSystem, plain: str, uri: str, kind: str) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(filesystem.cat_file(f"{plain}/{MANIFEST_NAME}"))
    except FileNotFoundError as error:
        raise StorageError(f"no complete {kind} at {uri} (no {MANIFEST_NAME}); upload it (again)") from error
    except ValidationError as error:
        raise StorageError(f"{uri}/{MANIFEST_NAME} is not a manifest; upload the {kind} again") from error
    except UNREADABLE as error:
        raise StorageError(f"cannot read {uri} ({error}); check the address and its permissions") from error
    if manifest.kind != kind:
        raise StorageError(f"{uri} is a {manifest.kind}, not a {kind}; name another place")
    return manifest
