"""The score cache: one value per key for everybody, bounded, whole after a kill."""

from __future__ import annotations

import hashlib
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.cache import CacheCounts, ScoreCache
from wmtp_ray.errors import StorageError

CHECKOUT = Path(__file__).resolve().parents[2]
BIG = 1 << 40


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def value(number: int, writer: str = "", size: int = 800) -> bytes:
    return f"{number} {writer} ".encode().ljust(size, b".")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "scores.sqlite")


def test_the_first_value_stays(path: str) -> None:
    first, second = ScoreCache(path, BIG), ScoreCache(path, BIG)
    assert first.put([key(1), key(2)], [value(1, "a"), value(2, "a")]) == [value(1, "a"), value(2, "a")]
    assert second.put([key(2), key(3)], [value(2, "b"), value(3, "b")]) == [value(2, "a"), value(3, "b")]
    expected = [value(3, "b"), value(1, "a"), None, value(2, "a")]
    assert first.get([key(3), key(1), key(4), key(2)]) == expected
    assert ScoreCache(path, BIG).get([key(3), key(1), key(4), key(2)]) == expected
    assert first.counts() == CacheCounts(hits=3, misses=1, stored_batches=1)


def test_one_key_twice_in_a_batch(path: str) -> None:
    cache = ScoreCache(path, BIG)
    assert cache.put([key(1), key(1)], [value(1, "a"), value(1, "b")]) == [value(1, "a")] * 2


def test_the_bound_holds_for_all_who_share_the_file_and_the_oldest_go_first(path: str) -> None:
    bound = 200_000
    caches = [ScoreCache(path, bound), ScoreCache(path, bound)]
    for start in range(0, 1000, 20):
        numbers = range(start, start + 20)
        stored = caches[start % 40 // 20].put([key(n) for n in numbers], [value(n) for n in numbers])
        assert stored == [value(n) for n in numbers]
        assert caches[0].used_bytes() == caches[1].used_bytes() <= bound
    found = caches[0].get([key(n) for n in range(1000)])
    kept = [n for n, v in enumerate(found) if v is not None]
    assert 100 < len(kept) < 300
    assert kept == list(range(kept[0], 1000))
    assert Path(path).stat().st_size < 1.5 * bound


def test_a_bound_below_one_batch_still_returns_the_batch(path: str) -> None:
    cache = ScoreCache(path, 1)
    assert cache.put([key(n) for n in range(50)], [value(n) for n in range(50)]) == [
        value(n) for n in range(50)
    ]
    assert cache.get([key(0)]) == [None]


WRITER = """
import sys
from tests.actors.test_cache import BIG, key, value
from actors.cache import ScoreCache
cache, writer, first, batches = ScoreCache(sys.argv[1], BIG), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for batch in range(first, first + batches):
    numbers = range(20 * batch, 20 * batch + 20)
    cache.put([key(n) for n in numbers], [value(n, writer, 4000) for n in numbers])
    print(batch, flush=True)
"""


def start_writer(path: str, writer: str, first: int, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, path, writer, str(first), str(batches)]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("acknowledged", [1, 7])
def test_a_killed_writer_leaves_whole_batches(path: str, acknowledged: int) -> None:
    writer = start_writer(path, "a", 0, 100_000)
    assert writer.stdout
    for _ in range(acknowledged):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    last = [int(line) for line in writer.communicate()[0].splitlines() if line]
    done = max([acknowledged - 1, *last]) + 1
    cache = ScoreCache(path, BIG)
    assert cache.get([key(n) for n in range(20 * done)]) == [value(n, "a", 4000) for n in range(20 * done)]
    for batch in range(done, done + 3):
        found = cache.get([key(n) for n in range(20 * batch, 20 * batch + 20)])
        assert found.count(None) in (0, 20)
    assert cache.put([key(-1)], [value(-1)]) == [value(-1)]


def test_two_processes_write_the_same_keys_at_once(path: str) -> None:
    writers = [start_writer(path, "a", 0, 30), start_writer(path, "b", 0, 30)]
    for writer in writers:
        assert len(writer.communicate(timeout=240)[0].split()) == 30
        assert writer.returncode == 0
    found = ScoreCache(path, BIG).get([key(n) for n in range(600)])
    assert all(v in (value(n, "a", 4000), value(n, "b", 4000)) for n, v in enumerate(found))
    for batch in range(30):  # and a batch is of one writer
        assert len({(v or b"").split()[1] for v in found[20 * batch : 20 * batch + 20]}) == 1


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """Writes beyond `limit` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_loses_nothing(path: str) -> None:
    cache = ScoreCache(path, BIG)
    cache.put([key(1)], [value(1)])
    numbers = range(2, 500)
    with files_no_larger_than(100_000), pytest.raises(StorageError, match="free space"):
        cache.put([key(n) for n in numbers], [value(n) for n in numbers])
    assert cache.get([key(1), key(2)]) == [value(1), None]
    assert cache.put([key(2)], [value(2)]) == [value(2)]


def test_a_damaged_file_is_named(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match=r"scores\.sqlite: file is not a database; .* move the file away"):
        ScoreCache(path, BIG).get([key(1)])


def test_a_lock_that_is_never_released_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.cache.WAIT_SECONDS", 0.05)
    cache = ScoreCache(path, BIG)
    assert cache.get([key(1)]) == [None]
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="database is locked"):
        cache.put([key(1)], [value(1)])
    other.execute("ROLLBACK")
    assert cache.put([key(1)], [value(1)]) == [value(1)]
