"""Converted models on disk: made once, aside, under a lock, and valid only with their manifest."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from wmtp_ray.errors import StorageError
from wmtp_ray.storage.manifest import read_manifest, write_manifest

MODEL_KIND = "model"
logger = logging.getLogger(__name__)


def is_complete(directory: Path) -> bool:
    """Whether `directory` has its manifest and every file its recorded size (content is not hashed again)."""
    try:
        manifest = read_manifest(directory, MODEL_KIND)
    except StorageError:
        return False
    files = ((directory / name, entry.bytes) for name, entry in manifest.files.items())
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def build_once(directory: Path, build: Callable[[Path], None], source: str) -> Path:
    """`directory`, built by `build(aside)` unless it is complete already.

    Steps: (1) take the lock of this directory, which a killed process gives back; (2) look again, another
    process may have finished; (3) remove what killed builds left; (4) build aside, write the manifest last,
    rename. So a reader sees a whole model or none, and of several processes one builds while the others
    wait.

    Errors: `StorageError` if the disk is full or not writable.
    """
    if is_complete(directory):
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.with_name(f".{directory.name}.lock")):
            if is_complete(directory):
                return directory
            for stale in directory.parent.glob(f".{directory.name}.tmp-*"):
                shutil.rmtree(stale)
            logger.info("converting %s into %s (once)", source, directory)
            aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.tmp-", dir=directory.parent))
            try:
                build(aside)
                write_manifest(aside, MODEL_KIND, source=source)
                # Temporary directories and safetensors are private at first; a shared cache is read by others.
                for path in (aside, *aside.rglob("*")):
                    path.chmod(0o755 if path.is_dir() else 0o644)
                if directory.exists():
                    shutil.rmtree(directory)
                aside.rename(directory)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except StorageError:
        raise
    except OSError as error:
        message = f"cannot write {directory}: {error.strerror or error}; free space or change storage.root"
        raise StorageError(message) from error
    return directory
