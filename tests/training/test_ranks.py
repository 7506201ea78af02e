"""Two ranks compute what one computes: gradients, every metric, whole runs with dropout."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.tensor import DTensor

from tests.training.runs import FINGERPRINTS, JOBS, assert_same_metrics, objective_of, records, trainer_of
from tests.training.scenes import Scene, Values, micro_batches
from wmtp_ray.data.plan import Plan
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training import collective as ranks
from wmtp_ray.training.checkpoint import load_latest
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.objective import Metrics
from wmtp_ray.training.sharding import shard_layers, whole

Result = tuple[Metrics, Metrics, dict[str, Tensor]]
"""Metrics of a step, of validation, and the summed gradients."""


def plans(scene: Scene, job: str) -> tuple[Plan, Plan]:
    """One step of 3 micro-batches, and a validation of a single one: with two ranks one of them has nothing."""
    solutions = "correct" if job == "policy" else "pairs"
    return (
        scene.plan(solutions, samples=3, micro_batches_per_step=3, samples_per_micro_batch=1),
        scene.plan(solutions, "valid", samples=1, micro_batches_per_step=1, samples_per_micro_batch=1),
    )


def one_step(scene: Scene, values: Values, job: str, collective: Collective) -> Result:
    """What this rank holds after a step and a validation."""
    train, held_out = plans(scene, job)
    objective = objective_of(scene, job, dropout=0.0)
    step = train.step(0)
    share, held_out_share = (
        [m for m in micro_batches(scene, s, values) if m.number % collective.world_size == collective.rank]
        for s in (step, held_out.step(0))
    )
    objective.prepare(step, share, collective)
    for m in share:
        objective.backward(m)
    parameters = objective.model.trainable_parameters()
    collective.sum_gradients(parameters.values())
    metrics = objective.metrics(collective)
    with torch.no_grad():
        validation = objective.evaluate(held_out_share, collective)
    return metrics, validation, {name: p.grad for name, p in parameters.items() if p.grad is not None}


def joined(rank: int, folder: Path) -> Collective:
    """The group of this process and the other one."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=200),
    )
    return Collective()


def rank_main(rank: int, scene: Scene, folder: Path) -> None:
    collective = joined(rank, folder)
    values = Values(scene)
    results = {job: one_step(scene, values, job, collective) for job in JOBS}
    torch.save(results, folder / f"rank-{rank}.pt")
    for job, sharded in itertools.product(JOBS, (False, True)):
        path = folder / run_name(job, sharded)
        trainer_of(scene, job, path, values, attempt="one", collective=collective, sharded=sharded).train()
    # A sharded run goes on from what whole models left: its first checkpoint is the other run's.
    for job in JOBS:
        first = sorted((folder / job / "checkpoints").iterdir())[0].name
        if rank == 0:
            shutil.copytree(
                folder / job / "checkpoints" / first, folder / f"{job}-resumed/checkpoints" / first
            )
        collective.barrier()
        path = folder / f"{job}-resumed"
        trainer_of(scene, job, path, values, attempt="one", collective=collective, sharded=True).train()
    policy, [micro_batch, *_] = scene.policy(), micro_batches(scene, scene.plan().step(0))
    shard_layers(policy, "cpu")
    parameters = policy.trainable_state_dict()
    together = whole(parameters, kept=rank == 0)
    kept = [
        together[name] is not shards for name, shards in parameters.items() if isinstance(shards, DTensor)
    ]
    own = raised([lambda: policy.trunk(micro_batch.batch), lambda: torch.ones(2).view(3)], collective)
    dist.destroy_process_group()
    asked: list[Callable[[], object]] = [
        lambda: collective.sum(torch.ones(1)),
        lambda: collective.gather(1),
        lambda: collective.sum_gradients([torch.ones(1, requires_grad=True)]),
        collective.barrier,
    ]
    gone = raised(asked) + raised([lambda: dist.get_world_size()], collective)
    torch.save({"own": own, "gone": gone}, folder / f"errors-{rank}.pt")
    torch.save(kept, folder / f"kept-{rank}.pt")


def raised(asked: Sequence[Callable[[], object]], collective: Collective | None = None) -> list[str]:
    """The errors that the calls raise, told from those of lost peers by `collective`."""
    errors = []
    for ask in asked:
        try:
            with collective.peers() if collective else nullcontext():
                ask()
        except Exception as error:
            errors.append(type(error).__name__)
    return errors


def survivor_main(rank: int, scene: Scene, folder: Path) -> None:
    """A sharded run whose second rank is killed in a forward of its second step."""
    collective = joined(rank, folder)
    trainer = trainer_of(scene, "critic", folder, None, attempt="one", collective=collective, sharded=True)

    def die(*_: object) -> None:
        if rank == 1 and trainer._steps_done == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    critic = trainer.objective.model
    assert isinstance(critic, ValueModel)
    critic.runner.layers[1].register_forward_pre_hook(die)
    [met] = raised([trainer.train], collective)
    (folder / f"met-{rank}").write_text(met)


def run_name(job: str, sharded: bool) -> str:
    return f"{job}-sharded" if sharded else job


@pytest.fixture(scope="module")
def two_ranks(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes left."""
    folder = tmp_path_factory.mktemp("ranks")
    for job, kind in itertools.product(JOBS, ("", "-sharded", "-resumed")):
        (folder / f"{job}{kind}").mkdir()
        (folder / f"{job}{kind}" / "attempt").write_text("one")
    mp.spawn(rank_main, (scene, folder), nprocs=2)
    return folder


@pytest.mark.parametrize("job", JOBS)
def test_a_step_on_two_ranks_is_the_step_on_one(
    scene: Scene, values: Values, two_ranks: Path, job: str
) -> None:
    alone = one_step(scene, values, job, Collective())
    for rank in range(2):
        metrics, validation, gradients = torch.load(two_ranks / f"rank-{rank}.pt")[job]
        assert_same_metrics(metrics, alone[0])
        assert_same_metrics(validation, alone[1])
        assert gradients.keys() == alone[2].keys()
        scale = max(float(g.abs().max()) for g in alone[2].values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, alone[2][name], rtol=1e-5, atol=1e-5 * scale, msg=name)


@pytest.fixture(scope="module", params=JOBS)
def alone(
    request: pytest.FixtureRequest, scene: Scene, values: Values, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A job, and where it ran to its end in this process."""
    path = tmp_path_factory.mktemp("alone")
    trainer_of(scene, request.param, path, values).train()
    return request.param, path


@pytest.mark.parametrize("kind", ["", "-sharded", "-resumed"])
def test_a_run_on_two_ranks_is_the_run_on_one(two_ranks: Path, alone: tuple[str, Path], kind: str) -> None:
    """Whole models (""), decoder layers sharded by FSDP2, and sharded from the checkpoint of a whole one."""
    job, whole = alone
    folder = two_ranks / f"{job}{kind}"
    left, right = records(folder), records(whole)
    right = right[-len(left) :]
    assert [r["step"] for r in left] == [r["step"] for r in right]
    for a, b in zip(left, right, strict=True):
        assert_same_metrics(a, b, 1e-4)
        assert a.get("loss", 0) == pytest.approx(b.get("loss", 0), abs=1e-5)
    (a, _), (b, _) = (load_latest(path / "checkpoints", FINGERPRINTS) for path in (folder, whole))
    assert a is not None and b is not None
    for name, tensor in a.parameters.items():
        torch.testing.assert_close(tensor, b.parameters[name], rtol=1e-3, atol=1e-4, msg=name)


def test_alone_every_collective_is_the_identity() -> None:
    collective = Collective()
    values = torch.arange(6.0).view(2, 3).T
    assert torch.equal(collective.sum(values), values)
    assert collective.sum(values).data_ptr() != values.data_ptr()
    assert collective.gather("x") == ["x"]
    collective.barrier()
    idle = torch.nn.Parameter(torch.ones(2))
    collective.sum_gradients([idle])
    assert idle.grad is not None and idle.grad.tolist() == [0, 0]


def test_gradients_travel_in_buffers_of_one_dtype_and_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "BUCKET_BYTES", 48)
    gradients = [
        torch.zeros(n, dtype=d) for n, d in ((4, torch.float32), (8, torch.float32), (2, torch.float32))
    ]
    gradients += [torch.zeros(2, dtype=torch.float64), torch.zeros(100, dtype=torch.float64), torch.zeros(1)]
    found = [[g.numel() for g in bucket] for bucket in ranks._buckets(gradients)]
    assert found == [[4, 8], [2], [2], [100], [1]]
    assert list(ranks._buckets([])) == []


def test_a_group_that_was_taken_away_is_no_fault_of_the_worker(two_ranks: Path) -> None:
    """Ray Train takes it from the living as soon as it knows of a death."""
    for rank in range(2):
        errors = torch.load(two_ranks / f"errors-{rank}.pt")
        assert errors == {"own": ["RuntimeError"], "gone": 5 * ["InfraError"]}


def test_only_the_rank_that_writes_keeps_whole_tensors(two_ranks: Path) -> None:
    kept = [torch.load(two_ranks / f"kept-{rank}.pt") for rank in range(2)]
    assert kept[0] and all(kept[0]) and not any(kept[1]) and len(kept[1]) == len(kept[0])


def test_the_death_of_a_rank_in_a_sharded_forward_is_no_fault_of_the_other(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "attempt").write_text("one")
    spawn = mp.get_context("spawn")
    processes = [spawn.Process(target=survivor_main, args=(rank, scene, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    assert (tmp_path / "met-0").read_text() == "InfraError"
