"""Critic, baseline and weighted policy through a real local Ray, on a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.tiny_jobs import STEPS, finish, losses, start, tiny_config, tiny_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with a finished critic run `tiny`."""
    root = tiny_root(tmp_path_factory.mktemp("root"))
    finish(start("critic", tiny_config(root, "critic", "tiny")))
    return root


def test_the_critic_trains_on_every_planned_pair_and_is_exported(root: Path) -> None:
    result = json.loads((root / "runs" / "critic-tiny" / "result.json").read_text())
    assert result["steps"] == STEPS == len(losses(root, "critic-tiny"))
    assert result["after"]["val_loss"] < result["before"]["val_loss"]
    assert (root / "runs" / "critic-tiny" / "export" / "manifest.json").exists()


def test_a_weighted_policy_scores_once_and_a_second_run_not_at_all(root: Path) -> None:
    finish(start("verifiable", tiny_config(root, "verifiable", "first")))
    first = json.loads((root / "runs" / "verifiable-first" / "result.json").read_text())
    assert first["critic_forwards"] > 0
    assert 0 < first["after"]["val_weight_ess"] < 1
    finish(start("verifiable", tiny_config(root, "verifiable", "second", cluster={"num_workers": 2})))
    second = json.loads((root / "runs" / "verifiable-second" / "result.json").read_text())
    assert second["critic_forwards"] == 0
    for (step, loss, _), (other_step, other_loss, _) in zip(
        losses(root, "verifiable-first"), losses(root, "verifiable-second"), strict=True
    ):
        assert step == other_step
        assert loss == pytest.approx(other_loss, abs=1e-5)  # 1 worker and 2


def test_the_same_command_on_a_finished_run_shows_its_result(root: Path) -> None:
    before = losses(root, "critic-tiny")
    output = finish(start("critic", root / "critic-tiny.yaml"))
    assert "is finished" in output
    assert losses(root, "critic-tiny") == before
