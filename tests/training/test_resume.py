"""Stopping and going on: on request, from another run's directory, with what the user allows to differ."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.runs import CONFIG, FINGERPRINTS, JOBS, records, trainer_of
from tests.training.scenes import Interruption, Scene, Values
from wmtp_ray.config.run import CheckpointConfig, ValidationConfig
from wmtp_ray.config.weighting import CriticWeighting, UniformWeighting, WeightingBase
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.checkpoint import complete_checkpoints, load_latest, load_step, newest_state
from wmtp_ray.training.resume import may_differ, trained_steps
from wmtp_ray.training.trainer import Trainer


@pytest.fixture(scope="module")
def whole(scene: Scene, values: Values, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A critic run to its end."""
    trainer = trainer_of(scene, "critic", tmp_path_factory.mktemp("whole"), values)
    assert trainer.train()
    return trainer


def interrupted(scene: Scene, values: Values, path: Path, dies_at: int = 3) -> Path:
    """The directory of a critic run that died before step `dies_at`."""
    with pytest.raises(Interruption):
        trainer_of(scene, "critic", path, values, dies_at=dies_at).train()
    return path


@pytest.mark.parametrize("request_end", [RunDirectory.request_stop, RunDirectory.request_growth])
def test_asked_to_stop_it_saves_and_goes_on_as_if_nothing_had_happened(
    scene: Scene, values: Values, whole: Trainer, tmp_path: Path, request_end: Any
) -> None:
    stopped = trainer_of(scene, "critic", tmp_path, values)
    request_end(stopped.run, stopped.attempt)
    assert stopped.train() is False
    assert [r["step"] for r in records(tmp_path)] == [0, 1]
    assert [p.name for p in complete_checkpoints(stopped.run.checkpoints)] == ["step-00000001"]
    resumed = trainer_of(scene, "critic", tmp_path, values)  # a new attempt was asked nothing
    assert resumed.train()
    assert records(tmp_path) == records(whole.run.path)


def from_other(scene: Scene, values: Values, path: Path, origin: Path, **changes: Any) -> Trainer:
    """A new run that begins with `origin`'s newest checkpoint; `changes` of configuration and plan."""
    plan = {name: changes.pop(name) for name in ("samples", "max_steps", "epochs") if name in changes}
    config = dataclasses.replace(CONFIG, resume=origin, **changes)
    notices: list[str] = []
    trainer = trainer_of(scene, "critic", path, values, config=config, notice=notices.append, **plan)
    trainer.fingerprints = FINGERPRINTS | {"plan": trainer.plan.fingerprint[:8]} if plan else FINGERPRINTS
    trainer.notices = notices  # type: ignore[attr-defined]
    return trainer


def test_another_directory_goes_on_bitwise(
    scene: Scene, values: Values, whole: Trainer, tmp_path: Path
) -> None:
    origin = interrupted(scene, values, tmp_path / "a")
    before = sorted(p.name for p in (origin / "checkpoints").iterdir())
    other = from_other(scene, values, tmp_path / "b", origin)
    assert other.train()
    assert other.notices == [f"resumed after step 3 of 5, begun in {origin}"]  # type: ignore[attr-defined]
    mine, theirs = records(tmp_path / "b"), records(whole.run.path)
    assert mine[0].keys() <= theirs[3].keys() and mine[0]["step"] == 3
    assert mine[1:] == theirs[4:]
    assert sorted(p.name for p in (origin / "checkpoints").iterdir()) == before
    # Started again, it takes up its own checkpoints.
    again = from_other(scene, values, tmp_path / "b", origin)
    assert again.train()
    assert records(tmp_path / "b") == mine


def test_a_longer_plan_goes_on_where_the_shorter_one_was(
    scene: Scene, values: Values, tmp_path: Path
) -> None:
    origin = interrupted(scene, values, tmp_path / "a")
    longer = from_other(scene, values, tmp_path / "b", origin, epochs=2.0)
    with pytest.raises(StorageError, match=r"trained with another plan .* resume_allow"):
        longer.train()
    longer = from_other(scene, values, tmp_path / "b", origin, epochs=2.0, resume_allow=("data.plan.epochs",))
    assert longer.train()
    assert [r["step"] for r in records(tmp_path / "b")] == list(range(3, 11))


def test_another_plan_begins_with_its_first_step(scene: Scene, values: Values, tmp_path: Path) -> None:
    origin = interrupted(scene, values, tmp_path / "a")
    other = from_other(scene, values, tmp_path / "b", origin, samples=7, resume_allow=("data",))
    assert other.train()
    assert "begins with its first step" in other.notices[0]  # type: ignore[attr-defined]
    written = records(tmp_path / "b")
    assert [r["step"] for r in written] == [0, 1, 2, 3]
    assert written[0]["val_loss"] == records(tmp_path / "a")[3]["val_loss"]
    changed = from_other(scene, values, tmp_path / "b", origin, samples=9, resume_allow=("data",))
    with pytest.raises(
        StorageError, match="first 3 steps are not those that were trained; give the run another"
    ):
        changed.train()


def test_an_allowed_change_of_the_optimizer_takes_effect(
    scene: Scene, values: Values, tmp_path: Path
) -> None:
    origin = interrupted(scene, values, tmp_path / "a")
    slower = CONFIG.optimizer.model_copy(update={"learning_rate": 1e-5, "weight_decay": 0.0})
    other = from_other(scene, values, tmp_path / "b", origin, optimizer=slower)
    other.train()
    assert records(tmp_path / "b")[1]["learning_rate"] == pytest.approx(1e-5 * 0.75)
    assert {group["weight_decay"] for group in other._optimizer.param_groups} == {0.0}


def test_a_run_that_trained_the_whole_plan_leaves_nothing_to_go_on_with(
    scene: Scene, values: Values, whole: Trainer, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"has trained all 5 steps of this plan; raise data\.plan\.epochs"):
        from_other(scene, values, tmp_path, whole.run.path).train()


def test_statistics_of_another_critic_or_weighting_begin_anew(
    scene: Scene, values: Values, tmp_path: Path
) -> None:
    def trainer(critic: str, path: Path, **changes: Any) -> Trainer:
        config = dataclasses.replace(CONFIG, **changes)
        made = trainer_of(
            scene, "policy", path, values, config=config, notice=notices.append, dies_at=dies_at
        )
        made.fingerprints = FINGERPRINTS | {"critic": critic}
        return made

    notices: list[str] = []
    dies_at: int | None = 3
    with pytest.raises(Interruption):
        trainer("first", tmp_path / "a").train()
    dies_at = None
    allowed = {"resume": tmp_path / "a", "resume_allow": ("critic",)}
    same, other = (trainer(critic, tmp_path / critic, **allowed) for critic in ("first", "second"))
    assert same.train() and not any("begin anew" in line for line in notices)
    assert other.train() and any("its statistics begin anew" in line for line in notices)
    taken = [newest_state(one.run.checkpoints) for one in (same, other)]
    assert taken[0] and taken[1] and taken[0].objective != taken[1].objective
    notices.clear()
    turned = trainer("first", tmp_path / "turned", resume=tmp_path / "a", resume_allow=("weighting",))
    method = turned.objective.method  # type: ignore[attr-defined]
    method.config = method.config.model_copy(update={"lam": 0.0})
    assert turned.train() and any("its statistics begin anew" in line for line in notices)


def test_a_directory_without_checkpoints_is_refused(scene: Scene, values: Values, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="has no complete checkpoint; name another run directory"):
        from_other(scene, values, tmp_path / "b", tmp_path / "a").train()


@pytest.mark.parametrize(("is_best", "wanted"), [("lowest", min), ("highest", max)])
def test_the_best_checkpoint_is_what_is_exported(
    scene: Scene, values: Values, tmp_path: Path, is_best: Any, wanted: Any
) -> None:
    checkpoint = CheckpointConfig(
        every_steps=99, keep=0, best_metric="val_margin", best_is=is_best, export="best"
    )
    validation = CONFIG.validation.model_copy(update={"every_steps": 1})
    config = dataclasses.replace(CONFIG, checkpoint=checkpoint, validation=validation)
    trainer = trainer_of(scene, "critic", tmp_path, values, config=config)
    trainer.train()
    written = {r["step"]: r["val_margin"] for r in records(tmp_path) if r["step"]}
    best = wanted(written, key=lambda step: written[step])
    assert trainer.load_exported(trainer.objective) == best
    newest, _ = load_latest(trainer.run.checkpoints, FINGERPRINTS)
    assert newest is not None and newest.state.best is not None
    assert (newest.state.best.step, newest.state.best.value) == (best, written[best])
    assert len(complete_checkpoints(trainer.run.checkpoints)) == (1 if best == 5 else 2)


def test_an_unknown_metric_is_refused_with_those_there_are(
    scene: Scene, values: Values, tmp_path: Path
) -> None:
    checkpoint = CONFIG.checkpoint.model_copy(update={"best_metric": "val_pass_at_1"})
    config = dataclasses.replace(CONFIG, checkpoint=checkpoint)
    with pytest.raises(ConfigError, match=r"best_metric = val_pass_at_1 .* there are .*'val_loss'"):
        trainer_of(scene, "critic", tmp_path, values, config=config).train()
    assert records(tmp_path) == []  # before the first step
    late = dataclasses.replace(config, validation=ValidationConfig(every_steps=None, before_training=False))
    with pytest.raises(ConfigError, match=r"best_metric = val_pass_at_1 .* there are .*'val_loss'"):
        trainer_of(scene, "critic", tmp_path, values, config=late, dies_at=1).train()


@pytest.mark.parametrize("job", JOBS)
def test_every_metric_of_validation_is_one_of_a_step(
    scene: Scene, values: Values, tmp_path: Path, job: str
) -> None:
    with pytest.raises(Interruption):
        trainer_of(scene, job, tmp_path, values, dies_at=3).train()
    last = records(tmp_path)[-1]
    validated = {name.removeprefix("val_") for name in last if name.startswith("val_")}
    assert validated and validated <= last.keys()


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda best: os.truncate(best / "model.safetensors", 100)])
def test_a_best_checkpoint_that_is_gone_or_damaged_is_sought_anew(
    scene: Scene, values: Values, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """It is gone where a later best one displaced it and was found damaged itself."""
    validation = CONFIG.validation.model_copy(update={"every_steps": 1})

    def run(is_best: Any, **options: Any) -> Trainer:
        checkpoint = CheckpointConfig(every_steps=1, best_metric="val_margin", best_is=is_best, export="best")
        config = dataclasses.replace(CONFIG, checkpoint=checkpoint, validation=validation)
        return trainer_of(scene, "critic", tmp_path / is_best, values, config=config, **options)

    for is_best in ("lowest", "highest"):  # of one of them the best is not the last
        with pytest.raises(Interruption):
            run(is_best, dies_at=3).train()
        newest = newest_state(tmp_path / is_best / "checkpoints")
        assert newest is not None and newest.best is not None
        if (gone := newest.best.step) != 3:
            break
    damage(tmp_path / is_best / "checkpoints" / f"step-{gone:08d}")
    notices: list[str] = []
    resumed = run(is_best, notice=notices.append)
    resumed.train()
    assert (
        f"the best checkpoint so far, of step {gone}, is gone or damaged; the best is sought anew" in notices
    )
    written = {r["step"]: r["val_margin"] for r in records(tmp_path / is_best) if r["step"] > 3}
    best = (min if is_best == "lowest" else max)(written, key=lambda step: written[step])
    assert resumed.load_exported(resumed.objective) == best


def test_a_best_step_by_another_metric_is_sought_anew(scene: Scene, values: Values, tmp_path: Path) -> None:
    def run(metric: str, **options: Any) -> Trainer:
        checkpoint = CheckpointConfig(every_steps=1, best_metric=metric, export="best")
        validation = CONFIG.validation.model_copy(update={"every_steps": 1})
        config = dataclasses.replace(CONFIG, checkpoint=checkpoint, validation=validation)
        return trainer_of(scene, "critic", tmp_path, values, config=config, **options)

    with pytest.raises(Interruption):
        run("val_margin", dies_at=3).train()
    notices: list[str] = []
    resumed = run("val_value_mean", notice=notices.append)
    resumed.train()
    assert "the best step so far was that by val_margin; the best is sought anew" in notices
    written = {r["step"]: r["val_value_mean"] for r in records(tmp_path) if r["step"] > 3}
    newest = newest_state(resumed.run.checkpoints)
    assert newest is not None and newest.best is not None
    assert newest.best.step == min(written, key=lambda step: written[step])


def test_without_a_best_step_the_last_is_exported_and_said_to_be(
    scene: Scene, values: Values, whole: Trainer, tmp_path: Path
) -> None:
    """The run died between its last step and its export; another metric is to decide since then."""
    shutil.copytree(whole.run.path, tmp_path, dirs_exist_ok=True)
    checkpoint = CONFIG.checkpoint.model_copy(update={"best_metric": "val_margin", "export": "best"})
    config, notices = dataclasses.replace(CONFIG, checkpoint=checkpoint), list[str]()
    again = trainer_of(scene, "critic", tmp_path, values, config=config, notice=notices.append)
    assert again.train() and again.load_exported(again.objective) == 5
    assert notices[0] == "the best step so far was that by val_loss; the best is sought anew"
    assert notices[-1] == "no best step is known: what is exported is the last, 5"


@pytest.mark.parametrize(
    "weightings", [(CriticWeighting(), UniformWeighting()), (UniformWeighting(), CriticWeighting())]
)
def test_the_best_step_of_another_weighting_is_exported_with_present_statistics(
    scene: Scene, values: Values, tmp_path: Path, weightings: tuple[WeightingBase, WeightingBase]
) -> None:
    checkpoint = CheckpointConfig(
        every_steps=1, best_metric="val_loss_unweighted", best_is="highest", export="best"
    )
    validation = CONFIG.validation.model_copy(update={"every_steps": 1})
    config = dataclasses.replace(CONFIG, checkpoint=checkpoint, validation=validation)

    def run(weighting: WeightingBase, **options: Any) -> Trainer:
        trainer = trainer_of(scene, "policy", tmp_path, values, config=config, **options)
        trainer.objective = scene.policy_objective(scene.policy(2, dropout=0.1), weighting)
        return trainer

    before, now = weightings
    with pytest.raises(Interruption):
        run(before, dies_at=3).train()
    trainer = run(now)
    assert trainer.train()
    trained = trainer.objective.state_dict()
    another = scene.policy_objective(scene.policy(2), now)
    for objective in (another, trainer.objective):
        step = trainer.load_exported(objective)
        assert step <= 3 and objective.state_dict() == trained
        best = load_step(trainer.run.checkpoints, step)
        for name, tensor in objective.model.trainable_state_dict().items():
            assert torch.equal(tensor, best.parameters[name]), name


@pytest.mark.parametrize(
    ("allowed", "fingerprints"),
    [
        ((), set()),
        (("data",), {"plan", "store"}),
        (("data.plan.max_steps",), {"plan"}),
        (("data.store",), {"plan", "store"}),
        (("critic",), {"critic"}),
        (("critic.run",), {"critic"}),
        (("critic.window", "model.dtype", "dat"), set()),
        (("model",), {"model"}),
    ],
)
def test_what_an_allowed_key_lets_differ(allowed: tuple[str, ...], fingerprints: set[str]) -> None:
    assert may_differ(allowed) == fingerprints


def test_plans_that_begin_alike_are_known(scene: Scene) -> None:
    layout = {"micro_batches_per_step": 3, "samples_per_micro_batch": 1}
    short, long = (scene.plan(samples=13, epochs=epochs, **layout) for epochs in (1.0, 2.0))
    other = scene.plan(samples=12, **layout)
    assert short.fingerprint != long.fingerprint
    for steps in range(short.num_steps + 1):
        assert trained_steps(short, steps) == trained_steps(long, steps)
    assert trained_steps(short, 0) == trained_steps(other, 0) != trained_steps(short, 1)
    assert trained_steps(short, 2) != trained_steps(other, 2)
