"""File systems behind paths and URIs, fsspec's or pyarrow's own: local, `s3://`, `gs://`, `hf://`, `memory://`, ...."""

from __future__ import annotations

import contextlib
import lzma
import zlib

import fsspec
import pyarrow as pa
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import FileSystem

from wmtp_ray.errors import DataError

UNREADABLE = (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, ImportError)
"""What file systems and decompressors raise; pyarrow's errors are among them."""


def filesystem_of(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system that opens `path`, and `path` as it names it.

    fsspec's, or pyarrow's own (S3, GCS, HDFS) where the package that fsspec wants for it is not installed. `DataError`
    where there is neither.
    """
    try:
        return fsspec.url_to_fs(path)
    except ImportError as error:
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            filesystem, plain = FileSystem.from_uri(path)
            return ArrowFSWrapper(filesystem), plain
        raise DataError(f"cannot open {path} ({error}); install what it names, or copy the file") from error
    except ValueError as error:
        raise DataError(f"cannot open {path} ({error}); correct the path") from error
