"""Whatever dies, the run ends with bitwise the losses of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.tiny_jobs import (
    STEPS,
    await_step,
    finish,
    kill_actor,
    kill_tree,
    losses,
    start,
    tiny_config,
    tiny_root,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with a critic and an undisturbed weighted run `quiet`."""
    root = tiny_root(tmp_path_factory.mktemp("root"))
    finish(start("critic", tiny_config(root, "critic", "tiny")))
    finish(start("verifiable", _config(root, "quiet")))
    return root


def _config(root: Path, name: str) -> Path:
    """Without the cache of the other runs, so that critics have to score while they are killed."""
    fresh_cache = {"run": "tiny", "window": 3, "cache": f"scores-{name}"}
    return tiny_config(root, "verifiable", name, critic=fresh_cache)


def _same_as_undisturbed(root: Path, name: str) -> None:
    disturbed = losses(root, f"verifiable-{name}")
    assert [step for step, _, _ in disturbed] == list(range(1, STEPS + 1))
    assert disturbed == losses(root, "verifiable-quiet")


def test_a_killed_train_worker(root: Path) -> None:
    process = start("verifiable", _config(root, "worker"))
    await_step(root, "verifiable-worker", 5, process)
    kill_actor(process, "RayTrainWorker")
    assert "resumed after step" in finish(process)
    _same_as_undisturbed(root, "worker")


def test_a_killed_critic(root: Path) -> None:
    process = start("verifiable", _config(root, "critic"))
    await_step(root, "verifiable-critic", 3, process)
    kill_actor(process, "CriticActor")
    finish(process)
    _same_as_undisturbed(root, "critic")


def test_a_killed_driver_and_the_same_command(root: Path) -> None:
    config = _config(root, "driver")
    process = start("verifiable", config)
    await_step(root, "verifiable-driver", 5, process)
    kill_tree(process)
    assert "resumed after step" in finish(start("verifiable", config))
    _same_as_undisturbed(root, "driver")


def test_a_changed_configuration_is_refused(root: Path) -> None:
    process = start("verifiable", tiny_config(root, "verifiable", "quiet", optimizer={"learning_rate": 0.5}))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "optimizer.learning_rate was 0.001, is 0.5" in output
