"""Preparing over Ray gives the store that preparing in one process gives, or no store at all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from filelock import FileLock
from transformers import PreTrainedTokenizerFast

from tests.data.stores import synthetic_problems
from tests.tiny import save_tiny_model
from wmtp_ray.cluster.prepare import finished_store, move_aside, parts_directory, prepare_store
from wmtp_ray.config.prepare import HeldOutConfig, PrepareJobConfig
from wmtp_ray.data.parts import Parts
from wmtp_ray.data.recipe import recipe_of
from wmtp_ray.data.records import Problem, Reject
from wmtp_ray.data.sources import build_source
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store
from wmtp_ray.errors import ConfigError, DataError, StorageError
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint


@dataclass(frozen=True)
class SyntheticSource:
    """40 problems in 8 parts of which the first are the slowest, so that they finish out of order."""

    fails_at: int | None = None

    def partitions(self) -> list[int]:
        return list(range(8))

    def problems(self, partition: int) -> Iterator[Problem | Reject]:
        time.sleep(0.05 * (8 - partition))
        if partition == self.fails_at:
            raise DataError("part 5 is unusable")
        yield from synthetic_problems(40)[partition * 5 : partition * 5 + 5]
        yield Reject(f"part {partition}", "bad_json", "x")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def tokenizer_directory(
    tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast
) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer.save_pretrained(str(directory))
    return directory


def job(root: Path, **source: object) -> PrepareJobConfig:
    return PrepareJobConfig.model_validate(
        {
            "name": "s",
            "storage": {"root": str(root)},
            "source": {"kind": "mini", **source},
            "tokenizer": "bytes",
            "max_length": 400,
        }
    )


@pytest.mark.usefixtures("local_ray")
def test_equals_one_process(tmp_path: Path, tokenizer_directory: Path):
    source = SyntheticSource()
    tokenizer = load_tokenizer(tokenizer_directory)
    items = [item for partition in source.partitions() for item in source.problems(partition)]
    alone = write_store(
        tmp_path / "alone",
        items,
        tokenizer,
        400,
        source={"kind": "x"},
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
    )
    counts = prepare_store(job(tmp_path), source, tokenizer_directory, tmp_path / "spread")
    assert counts == alone
    assert counts.rejected["bad_json"] == 8
    spread = SolutionStore.open(tmp_path / "spread")
    assert spread.manifest.files == SolutionStore.open(tmp_path / "alone").manifest.files


@pytest.mark.usefixtures("local_ray")
def test_failing_part_leaves_no_store(tmp_path: Path, tokenizer_directory: Path):
    with pytest.raises(DataError, match="part 5 is unusable"):
        prepare_store(job(tmp_path), SyntheticSource(fails_at=5), tokenizer_directory, tmp_path / "s")
    with pytest.raises(StorageError, match="incomplete"):
        SolutionStore.open(tmp_path / "s")
    assert prepare_store(job(tmp_path), SyntheticSource(), tokenizer_directory, tmp_path / "s").rows_kept


@pytest.mark.usefixtures("local_ray")
def test_json_lines(tmp_path: Path, tokenizer_directory: Path):
    rows = [
        {"instruction": f"Do {p}", "output": f"x = {i}", "problem_id": f"p{p}", "is_correct": i % 2 == 0}
        for i in range(6)
        for p in range(10)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join([*map(json.dumps, rows), "{"]))
    config = job(tmp_path, kind="jsonl", paths=[str(tmp_path / "a.jsonl")]).model_copy(
        update={"held_out": HeldOutConfig(valid_share=0.2)}
    )
    assert str(tmp_path) not in json.dumps(recipe_of(config))
    counts = prepare_store(config, build_source(config.source), tokenizer_directory, tmp_path / "s")
    assert (counts.rows_in, counts.rows_kept, counts.rejected) == (61, 60, {"bad_json": 1})
    store = SolutionStore.open(tmp_path / "s")
    assert len(store.problems("valid")) == 2
    assert store.index.correct.rows.size == 30


@pytest.mark.usefixtures("local_ray")
def test_a_finished_store_is_that_of_its_tokenizer(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(
        '{"instruction": "Do", "output": "x = 1", "problem_id": "p", "is_correct": true}'
    )
    model, other = save_tiny_model(tmp_path / "model"), tmp_path / "other"
    config = job(tmp_path, kind="jsonl", paths=[str(tmp_path / "a.jsonl")]).model_copy(
        update={"tokenizer": str(model)}
    )
    counts = prepare_store(config, build_source(config.source), model, tmp_path / "s")
    assert finished_store(config, tmp_path / "s") == counts
    shutil.copytree(model, other)
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(str(other))
    with pytest.raises(ConfigError, match=r"was prepared with tokenizer_fingerprint = .*; use --fresh"):
        finished_store(config.model_copy(update={"tokenizer": str(other)}), tmp_path / "s")


def test_a_full_disk_is_one_error(tmp_path: Path):
    """A limit on the size of files stands in for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    parts = Parts(tmp_path / "parts", "key", 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"free space or set storage\.root"):
            for _ in range(3):
                parts.append(0, bytes(15_000), b"")
            parts.complete(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Parts(tmp_path / "parts", "key", 2).missing() == [0, 1]


def test_moving_aside_twice_in_a_second(tmp_path: Path):
    for _ in range(3):
        (tmp_path / "s").mkdir()
        move_aside(tmp_path / "s")
    move_aside(tmp_path / "s")
    assert len(list(tmp_path.glob("s.*"))) == 3


def test_one_process_at_a_time_prepares_a_store(tmp_path: Path, tokenizer_directory: Path):
    with (
        FileLock(tmp_path / ".s.lock"),
        pytest.raises(StorageError, match="another process is preparing"),
    ):
        prepare_store(job(tmp_path), SyntheticSource(), tokenizer_directory, tmp_path / "s")


@dataclass(frozen=True)
class WaitsToBeKilled(SyntheticSource):
    """Reading parts 2 and 5 for the first time notes the process's id in `folder` half way, and waits."""

    folder: str = ""

    def problems(self, partition: int) -> Iterator[Problem | Reject]:
        mark = Path(self.folder, str(partition))
        for number, item in enumerate(super().problems(partition)):
            if number == 3 and partition in (2, 5) and not mark.exists():
                mark.write_text(str(os.getpid()))
                time.sleep(120)
            yield item


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("local_ray")
def test_killed_workers_lose_and_repeat_nothing(tmp_path: Path, tokenizer_directory: Path):
    """SIGKILL of the processes that read two of the parts: the store is the undisturbed one."""

    def kill_readers() -> set[str]:
        killed: set[str] = set()
        deadline = time.monotonic() + 200
        while len(killed) < 2 and time.monotonic() < deadline:
            for part in {"2", "5"} - killed:
                mark = tmp_path / part
                if mark.exists() and (pid := mark.read_text()):
                    os.kill(int(pid), signal.SIGKILL)
                    killed.add(part)
            time.sleep(0.1)
        return killed

    with ThreadPoolExecutor() as pool:
        killer = pool.submit(kill_readers)
        source = WaitsToBeKilled(folder=str(tmp_path))
        counts = prepare_store(job(tmp_path), source, tokenizer_directory, tmp_path / "killed")
        assert killer.result() == {"2", "5"}
    assert counts == prepare_store(job(tmp_path), SyntheticSource(), tokenizer_directory, tmp_path / "whole")
    stores = [SolutionStore.open(tmp_path / name) for name in ("killed", "whole")]
    assert stores[0].manifest.files == stores[1].manifest.files


def test_a_store_that_is_being_made_is_not_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    parts_directory(path).mkdir(parents=True)
    with (
        FileLock(path.with_name(".mine.lock")),
        pytest.raises(StorageError, match="another process is preparing"),
    ):
        move_aside(path)
    assert parts_directory(path).is_dir()
    move_aside(path)
    assert not parts_directory(path).exists()
