"""The stream as workers meet it: plan order from Ray Data, the same for any number of workers, whoever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray
import torch
from ray.data import ReadTask
from transformers import PreTrainedTokenizerFast

from tests.data.stores import build_store, synthetic_problems
from wmtp_ray.cluster import stream
from wmtp_ray.cluster.stream import PlanStream, ShareSource, configure_streams
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.run import ClusterConfig
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.plan import Plan, make_plan
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import DataError

READS = ClusterConfig(steps_per_read=2, read_tasks=2)
TENSORS = ("input_ids", "position_ids", "segment_ids", "labels", "sample_ids")


@dataclass(frozen=True)
class Scene:
    """A store, its tokenizer's directory, and a plan whose steps and micro-batches nothing divides."""

    store: SolutionStore
    tokenizer: Path
    plan: Plan

    def stream(self, rank: int = 0, world_size: int = 1) -> PlanStream:
        return PlanStream(self.store.path, self.tokenizer, rank, world_size, READS)


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("stream")
    byte_tokenizer.save_pretrained(str(folder / "tokenizer"))
    store = build_store(folder / "store", synthetic_problems(60), byte_tokenizer)
    shape = PlanConfig(micro_batches_per_step=5, samples_per_micro_batch=2, epochs=2, max_steps=7)
    plan = make_plan(store, SamplingConfig(solutions="pairs", num_samples=33), shape)
    assert plan.num_steps == 7 and len(plan.step(3).micro_batches) < 5
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    configure_streams()
    yield Scene(store, folder / "tokenizer", plan)
    ray.shutdown()


def loaded(scene: Scene, tokenizer: PreTrainedTokenizerFast) -> list[list[PackedBatch]]:
    """Every step without Ray."""
    return [
        [load_micro_batch(scene.store, tokenizer, planned) for planned in step.micro_batches]
        for step in scene.plan.steps()
    ]


def assert_equal(found: PackedBatch, wanted: PackedBatch) -> None:
    assert all(torch.equal(getattr(found, name), getattr(wanted, name)) for name in TENSORS)


def test_any_number_of_workers_from_any_step(scene: Scene, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    wanted = loaded(scene, byte_tokenizer)
    for world_size, first in ((1, 0), (2, 3), (3, 0), (3, 6)):
        ranks = [list(scene.stream(rank, world_size)(scene.plan, first)) for rank in range(world_size)]
        assert [len(steps) for steps in ranks] == [7 - first] * world_size
        for s in range(first, 7):
            together = {m.number: m.batch for steps in ranks for m in steps[s - first]}
            assert sum(len(steps[s - first]) for steps in ranks) == len(together) == len(wanted[s])
            for number, batch in together.items():
                assert_equal(batch, wanted[s][number])


def test_a_bad_row_reaches_the_user_in_one_line(scene: Scene) -> None:
    columns = {**scene.plan.columns, "tokens": scene.plan.columns["tokens"] + 1}
    with pytest.raises(DataError, match=r"the plan says .* must\s+belong to store") as raised:
        list(scene.stream()(Plan(columns, scene.plan.facts), 0))
    assert "\n" not in str(raised.value)


class SlowOrKilledSource(ShareSource):
    """Reads slowly; a task's process notes its id in `folder`, and the first three wait there to be killed."""

    folder: Path

    def _task(self, group: list[stream.Share], row_limit: int | None) -> ReadTask:
        read = super()._task(group, row_limit)
        first, folder = group[0][0], self.folder

        def blocks() -> object:
            mark = folder / str(first)
            if not mark.exists():
                mark.write_text(str(os.getpid()))
                time.sleep(60 if first < 6 else 0)
            time.sleep(0.5 if first % 4 else 0)
            return read()

        return ReadTask(blocks, read.metadata, per_task_row_limit=row_limit)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_and_slow_read_tasks_change_nothing(
    scene: Scene, byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL of the process of each of the first three read tasks."""
    monkeypatch.setattr(SlowOrKilledSource, "folder", tmp_path, raising=False)
    monkeypatch.setattr(stream, "ShareSource", SlowOrKilledSource)
    killed: set[int] = set()

    def kill_readers() -> None:
        deadline = time.monotonic() + 200
        while len(killed) < 3 and time.monotonic() < deadline:
            for first in (0, 2, 4):
                mark = tmp_path / str(first)
                if first not in killed and mark.exists() and (pid := mark.read_text()):
                    assert any(child.pid == int(pid) for child in psutil.Process().children(recursive=True))
                    os.kill(int(pid), signal.SIGKILL)
                    killed.add(first)
            time.sleep(0.1)

    with ThreadPoolExecutor() as pool:
        killer = pool.submit(kill_readers)
        found = list(scene.stream()(scene.plan, 0))
        killer.result()
    assert killed == {0, 2, 4}
    for steps, wanted in zip(found, loaded(scene, byte_tokenizer), strict=True):
        for micro_batch, batch in zip(steps, wanted, strict=True):
            assert_equal(micro_batch.batch, batch)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_stays_flat(scene: Scene) -> None:
    """What is read ahead of a reader that does not come back for more does not grow with the plan."""
    shape = PlanConfig(micro_batches_per_step=5, samples_per_micro_batch=2, epochs=60)
    plan = make_plan(scene.store, SamplingConfig(solutions="pairs", num_samples=33), shape)
    assert plan.num_steps == 240
    steps = scene.stream()(plan, 0)
    process = psutil.Process()
    for _ in range(20):
        next(steps)
    before = process.memory_info().rss
    assert sum(1 for _ in steps) == 220
    assert process.memory_info().rss - before < 60e6
