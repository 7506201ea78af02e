"""The training loop: what it writes, and that an interruption leaves no trace in the numbers."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from tests.training.runs import CONFIG, FINGERPRINTS, JOBS, records, trainer_of
from tests.training.scenes import Interruption, Scene, Values
from wmtp_ray.cluster.metrics import COUNTERS, GAUGES, HEAD_GAUGES
from wmtp_ray.config.run import OptimizerConfig
from wmtp_ray.errors import DataError, StorageError
from wmtp_ray.training.checkpoint import BestStep, complete_checkpoints, load_latest, newest_state
from wmtp_ray.training.trackers import numbers
from wmtp_ray.training.trainer import Trainer


@pytest.fixture(scope="module", params=JOBS)
def uninterrupted(
    request: pytest.FixtureRequest, scene: Scene, values: Values, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Trainer]:
    """A job and its run to the end, with dropout."""
    trainer = trainer_of(scene, request.param, tmp_path_factory.mktemp("whole"), values)
    trainer.train()
    return request.param, trainer


def steps_kept(trainer: Trainer) -> list[int]:
    """The steps of the checkpoints that are there."""
    return [int(p.name.removeprefix("step-")) for p in complete_checkpoints(trainer.run.checkpoints)]


def assert_same_end(left: Trainer, right: Trainer) -> None:
    """Metrics, parameters, optimizer, schedule and EMA are equal bit by bit."""
    assert records(left.run.path) == records(right.run.path)
    (a, _), (b, _) = (load_latest(t.run.checkpoints, FINGERPRINTS) for t in (left, right))
    assert a is not None and b is not None
    assert a.state == b.state and a.state.step == 5
    assert a.parameters.keys() == b.parameters.keys()
    for name, tensor in a.parameters.items():
        assert torch.equal(tensor, b.parameters[name]), name
        assert torch.equal(tensor, left.objective.model.trainable_state_dict()[name]), name
    assert a.optimizer["param_groups"] == b.optimizer["param_groups"]
    for number, moments in a.optimizer["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, b.optimizer["state"][number][name]), (number, name)


def test_what_a_run_writes(uninterrupted: tuple[str, Trainer]) -> None:
    job, trainer = uninterrupted
    written = records(trainer.run.path)
    assert [r["step"] for r in written] == [0, 1, 2, 3, 4, 5]
    assert [r["step"] for r in written if "val_loss" in r] == [0, 3, 5]
    assert (
        {"step", "val_loss"} <= set(written[0]) <= {"step"} | {k for k in written[3] if k.startswith("val_")}
    )
    best = min((3, 5), key=lambda step: written[step]["val_loss"])
    assert steps_kept(trainer) == sorted({best, 4, 5})
    newest = newest_state(trainer.run.checkpoints)
    assert newest is not None
    assert newest.best == BestStep(
        step=best, value=written[best]["val_loss"], metric="val_loss", best_is="lowest"
    )
    assert [r["tokens"] for r in written[1:]] == [trainer.plan.step(s).tokens for s in range(5)]
    assert written[-1]["val_loss"] != written[0]["val_loss"]
    rates = [r["learning_rate"] for r in written[1:]]
    assert rates == pytest.approx([3e-3 / 3, 3e-3 * 2 / 3, 3e-3, 3e-3 * 0.75, 3e-3 * 0.25])
    assert all(r["grad_norm"] > 0 for r in written[1:])
    sent = GAUGES.keys() | COUNTERS.keys() | {f"{name}_{k}" for name in HEAD_GAUGES for k in (1, 2)}
    unsent = {
        "epoch",
        "time",
        "seconds",
        "shorter_wins_accuracy",
        "pairs",
        "ties",
    }  # beside validation's other numbers
    assert {n for n in numbers(written[1]) if n not in unsent} <= sent
    if job == "policy":
        assert trainer.objective.state_dict()["emas"][0]["updates"] == 5


@pytest.mark.parametrize("dies_at", [0, 1, 3])
def test_resumed_equals_uninterrupted(
    scene: Scene, values: Values, uninterrupted: tuple[str, Trainer], tmp_path: Path, dies_at: int
) -> None:
    job, whole = uninterrupted
    with pytest.raises(Interruption):
        trainer_of(scene, job, tmp_path, values, dies_at=dies_at).train()
    assert [r["step"] for r in records(tmp_path)] == list(range(dies_at + 1))
    notices: list[str] = []
    resumed = trainer_of(scene, job, tmp_path, values, notice=notices.append)
    torch.manual_seed(123)  # nothing depends on the state of the process
    resumed.train()
    assert_same_end(resumed, whole)
    assert notices == ([f"resumed after step {dies_at} of 5"] if dies_at > 1 else [])


def test_a_damaged_newest_checkpoint_costs_steps_but_changes_nothing(
    scene: Scene, values: Values, uninterrupted: tuple[str, Trainer], tmp_path: Path
) -> None:
    job, whole = uninterrupted
    with pytest.raises(Interruption):
        trainer_of(scene, job, tmp_path, values, dies_at=4).train()
    os.truncate(tmp_path / "checkpoints" / "step-00000004" / "model.safetensors", 100)
    notices: list[str] = []
    resumed = trainer_of(scene, job, tmp_path, values, notice=notices.append)
    resumed.train()
    assert "passed over a damaged checkpoint" in notices[0] and "model.safetensors" in notices[0]
    assert notices[1] == "resumed after step 3 of 5"
    assert_same_end(resumed, whole)


def test_a_run_that_is_at_its_end_trains_nothing(
    scene: Scene, values: Values, uninterrupted: tuple[str, Trainer]
) -> None:
    job, whole = uninterrupted
    before = records(whole.run.path)
    again = trainer_of(scene, job, whole.run.path, values, dies_at=0)
    again.train()
    assert records(whole.run.path) == before
    for name, tensor in whole.objective.model.trainable_state_dict().items():
        assert torch.equal(tensor, again.objective.model.trainable_state_dict()[name])


def test_a_checkpoint_every_step_or_only_at_the_end_changes_nothing(
    scene: Scene, values: Values, uninterrupted: tuple[str, Trainer], tmp_path: Path
) -> None:
    job, whole = uninterrupted
    rare = dataclasses.replace(CONFIG, checkpoint=CONFIG.checkpoint.model_copy(update={"every_steps": 99}))
    trainer = trainer_of(scene, job, tmp_path, values, config=rare)
    trainer.train()
    assert steps_kept(trainer) == [3, 5]  # after validation; the last
    assert_same_end(trainer, whole)


def test_validation_before_training_can_be_left_out(
    scene: Scene, values: Values, uninterrupted: tuple[str, Trainer], tmp_path: Path
) -> None:
    job, whole = uninterrupted
    without = CONFIG.validation.model_copy(update={"before_training": False})
    trainer_of(scene, job, tmp_path, values, config=dataclasses.replace(CONFIG, validation=without)).train()
    assert records(tmp_path) == records(whole.run.path)[1:]


def test_dropout_depends_on_the_seed(
    scene: Scene, values: Values, uninterrupted: tuple[str, Trainer], tmp_path: Path
) -> None:
    job, whole = uninterrupted
    other = trainer_of(scene, job, tmp_path, values, config=dataclasses.replace(CONFIG, seed=6))
    other.train()
    first, second = records(whole.run.path), records(tmp_path)
    assert first[0] == second[0]  # without dropout
    assert first[1]["loss"] != second[1]["loss"]


def test_an_attempt_that_was_replaced_saves_nothing(scene: Scene, values: Values, tmp_path: Path) -> None:
    old = trainer_of(scene, "critic", tmp_path, values)
    old.run.begin_attempt()
    with pytest.raises(StorageError, match="taken over by a newer start of the same run"):
        old.train()
    assert complete_checkpoints(old.run.checkpoints) == []


def test_a_model_that_overflows_ends_the_run(scene: Scene, values: Values, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1e30))
    with pytest.raises(DataError, match="not finite"):
        trainer_of(scene, "critic", tmp_path, values, config=config).train()


def test_a_gradient_that_is_not_finite_names_its_samples(
    scene: Scene, values: Values, tmp_path: Path
) -> None:
    trainer = trainer_of(scene, "policy", tmp_path, values)
    parameter = next(iter(trainer.objective.model.trainable_parameters().values()))
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(DataError, match="the gradient of step 0 is not finite; its samples are") as raised:
        trainer.train()
    for micro_batch in trainer.plan.step(0).micro_batches:
        assert all(str(row) in str(raised.value) for row in micro_batch.rows)


def test_a_checkpoint_of_another_model_is_refused(scene: Scene, values: Values, tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        trainer_of(scene, "critic", tmp_path, values, dies_at=2).train()
    other = trainer_of(scene, "critic", tmp_path, values)
    other.fingerprints = FINGERPRINTS | {"model": "other"}
    with pytest.raises(StorageError, match="trained with another model"):
        other.train()


def test_bad_data_names_its_samples_by_packed_row(scene: Scene, values: Values, tmp_path: Path) -> None:
    trainer = trainer_of(scene, "critic", tmp_path, values)
    with torch.no_grad():
        next(iter(trainer.objective.model.parameters())).fill_(float("nan"))
    trainer.validation_plan = dataclasses.replace(
        trainer.plan, columns={name: column[:0] for name, column in trainer.plan.columns.items()}
    )
    with pytest.raises(DataError, match="samples of step 0 by packed row: micro-batch 0 has") as raised:
        trainer.train()
    assert str([list(row) for row in trainer.plan.step(0).micro_batches[0].packed_rows]) in str(raised.value)
