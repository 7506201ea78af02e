"""The score cache: values of the frozen critic, kept over epochs, resumes and runs.

One actor of a run owns the connection; SQLite's own locking keeps runs that share the file apart, and its journal
makes every write whole or absent after a kill. Where two writers have a value for the same key the first one stays, so
that everybody trains on the same number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from actors.measures import CacheMeasures
from wmtp_ray.errors import StorageError

WAIT_SECONDS = 60


@dataclass(frozen=True)
class CacheCounts:
    """What the actor was asked for since it started: lookups by outcome, and batches of new scores to store, one for
    each forward pass of a model."""

    hits: int
    misses: int
    stored_batches: int


class ScoreCache:
    """Keys (32 bytes) to float32 vectors (as bytes), in one file below `<root>/cache/`, which takes at most `max_bytes`
    of disk; the oldest values go first. Raises `StorageError` where the file is damaged or cannot grow; what it holds
    stays."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._hits = self._misses = self._stored_batches = 0
        self._measures = CacheMeasures()

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        """The stored value of each key, None where there is none."""
        with self._naming_the_file():
            found = [self._lookup(key) for key in keys]
        missing = found.count(None)
        self._misses += missing
        self._hits += len(keys) - missing
        self._measures.looked_up(len(keys) - missing, missing)
        return found

    def put(self, keys: list[bytes], values: list[bytes]) -> list[bytes]:
        """Store values that are not there yet, all or none; returns what is stored under each key afterwards."""
        with self._naming_the_file(), self._transaction():
            self._database.executemany(
                "INSERT OR IGNORE INTO scores (key, value) VALUES (?, ?)", zip(keys, values, strict=True)
            )
            stored = [value for value in map(self._lookup, keys) if value is not None]
            self._evict()
            self._measures.takes(self.used_bytes())
        self._stored_batches += 1
        return stored

    def counts(self) -> CacheCounts:
        """How often `get` found a value, how often not, and how often `put` was called."""
        return CacheCounts(self._hits, self._misses, self._stored_batches)

    def used_bytes(self) -> int:
        """Disk that the values take, by all runs that share the file."""
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    @cached_property
    def _database(self) -> sqlite3.Connection:
        """Opened at the first use: an actor that fails while it is made would not say why."""
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None)
        database.execute(
            "CREATE TABLE IF NOT EXISTS scores (number INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB NOT NULL)"
        )
        return database

    def _lookup(self, key: bytes) -> bytes | None:
        row = self._database.execute("SELECT value FROM scores WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _evict(self) -> None:
        """Drop the oldest tenth of the rows until the rest fits."""
        while self.used_bytes() > self._max_bytes:
            dropped = self._database.execute(
                "DELETE FROM scores WHERE number IN "
                "(SELECT number FROM scores ORDER BY number LIMIT (SELECT 1 + COUNT(*) / 10 FROM scores))"
            )
            if dropped.rowcount == 0:
                return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # a full disk has rolled it back already
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"score cache {self._path}: {error}; free space, or move the file away (its scores are computed again)"
            ) from error
