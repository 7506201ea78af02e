"""The score cache: values of the frozen critic, kept over epochs, resumes and runs.

One actor of a run owns the connection; SQLite's own locking keeps runs that share the file apart, and its journal
makes every write whole or absent after a kill. Where two writers have a value for the same key the first one stays, so
that everybody trains on the same number.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CacheCounts:
    """Lookups since the actor started, by outcome."""

    hits: int
    misses: int


class ScoreCache:
    """Keys (32 bytes) to float32 vectors (as bytes), in `<root>/cache/scores.sqlite`, at most `max_bytes` of values."""

    def __init__(self, path: str, max_bytes: int) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS scores (number INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB NOT NULL)"
        )
        self._max_bytes = max_bytes
        self._bytes = self._measure()
        self._hits = self._misses = 0

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        """The stored value of each key, None where there is none."""
        found = [self._lookup(key) for key in keys]
        missing = found.count(None)
        self._misses += missing
        self._hits += len(keys) - missing
        return found

    def put(self, keys: list[bytes], values: list[bytes]) -> list[bytes]:
        """Store values that are not there yet, all or none; returns what is stored under each key afterwards."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(
                "INSERT OR IGNORE INTO scores (key, value) VALUES (?, ?)", zip(keys, values, strict=True)
            )
            stored = [value for value in map(self._lookup, keys) if value is not None]
            self._bytes += sum(map(len, stored))
            if self._bytes > self._max_bytes:
                self._evict()
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return stored

    def counts(self) -> CacheCounts:
        """How often `get` found a value, and how often not."""
        return CacheCounts(self._hits, self._misses)

    def _lookup(self, key: bytes) -> bytes | None:
        row = self._database.execute("SELECT value FROM scores WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _measure(self) -> int:
        return self._database.execute("SELECT COALESCE(SUM(LENGTH(value)), 0) FROM scores").fetchone()[0]

    def _evict(self) -> None:
        """Drop the oldest tenth of the rows if the values really take more than `max_bytes`."""
        self._bytes = self._measure()
        if self._bytes > self._max_bytes:
            self._database.execute(
                "DELETE FROM scores WHERE number IN "
                "(SELECT number FROM scores ORDER BY number LIMIT (SELECT 1 + COUNT(*) / 10 FROM scores))"
            )
            self._bytes = self._measure()
