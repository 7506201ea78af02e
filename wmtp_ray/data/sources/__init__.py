"""Where labelled programs come from. A source is small and picklable; see `wmtp_ray.data.records.Source`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from wmtp_ray.config.prepare import JsonlSourceConfig, MiniSourceConfig, SourceConfig
from wmtp_ray.data.records import Source


def build_source(config: SourceConfig) -> Source:
    """The source that a `source` section describes."""
    match config:
        case MiniSourceConfig():
            from wmtp_ray.data.sources.mini import MiniSource

            return MiniSource(config.families)
        case JsonlSourceConfig():
            from wmtp_ray.data.sources.jsonl import JsonlSource

            return JsonlSource(config.paths, config.valid_share, config.test_share)


def source_identity(config: SourceConfig) -> dict[str, Any]:
    """A source as a manifest records it: its section, with names and sizes of files instead of their places.

    So a store has the same fingerprint wherever its files lay.
    """
    identity = config.model_dump(mode="json")
    if isinstance(config, JsonlSourceConfig):
        paths = identity.pop("paths")
        identity["files"] = [{"name": Path(path).name, "bytes": _size(path)} for path in paths]
    return identity


def _size(path: str) -> int | None:
    try:
        filesystem, plain = fsspec.url_to_fs(path)
        return filesystem.size(plain)
    except (OSError, ValueError, ImportError):
        return None  # `partitions` says what is wrong with it
