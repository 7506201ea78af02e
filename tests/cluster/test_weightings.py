"""Rho-1, cross-fitted critics, controls and growing pools through a real local Ray, on a tiny random model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.tiny_jobs import STEPS, finish, losses, shared_cluster, start, tiny_config, tiny_root
from wmtp_ray.data.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with shared_cluster(5) as address:
        yield address


def result(root: Path, run: str) -> dict[str, Any]:
    return json.loads((root / "runs" / run / "result.json").read_text())


def test_rho1_reads_cached_losses_of_a_trained_reference(root: Path, address: str) -> None:
    one_head = {"name": str(root / "model"), "lora": {"rank": 4, "alpha": 8}, "num_heads": 1}
    best = {"checkpoint": {"every_steps": 2, "export": "best"}, "validation": {"every_steps": 4}}
    finish(start("ref_tuning", tiny_config(root, "ref_tuning", "tiny", model=one_head, **best), address))
    reference = result(root, "ref_tuning-tiny")
    assert reference["exported_step"] == reference["best"]["step"] in (4, 8, 12)
    assert (root / "runs" / "ref_tuning-tiny" / "export" / "model" / "config.json").exists()
    weighting = {"method": "rho1", "normalize": "mean_one", "eos_weight": "one"}
    sections = {"weighting": weighting, "reference": {"run": "tiny", "window": 3}}
    finish(start("rho1", tiny_config(root, "rho1", "one", **sections), address))
    finish(start("rho1", tiny_config(root, "rho1", "two", **sections, cluster={"num_workers": 2}), address))
    assert result(root, "rho1-one")["critic_forwards"] > 0
    assert result(root, "rho1-two")["critic_forwards"] == 0
    for (step, loss, _), (other_step, other_loss, _) in zip(
        losses(root, "rho1-one"), losses(root, "rho1-two"), strict=True
    ):
        assert step == other_step
        assert loss == pytest.approx(other_loss, abs=1e-5)


def test_cross_fitted_lambda_return_critics_and_a_pool_that_grows(root: Path, address: str) -> None:
    objective = {"method": "lambda_return", "lam_schedule": "linear", "lam_end": 0.5}
    output = finish(
        start("critic", tiny_config(root, "critic", "crossed", objective=objective, folds=2), address)
    )
    assert output.count(f"{STEPS} steps") >= 2
    rows = {}
    for fold in range(2):
        plan = Plan.load(root / "runs" / f"critic-crossed-without-{fold}-of-2" / "plan.parquet")
        rows[fold] = set(plan.columns["row"].tolist())
    assert rows[0] and rows[1] and not rows[0] & rows[1]
    weighting = {"method": "critic", "gamma": 0.99, "rewards": True}
    critic = {"run": "crossed", "folds": 2, "window": 3, "actors": [1, 2], "cpus_per_actor": 0.5}
    finish(
        start(
            "verifiable",
            tiny_config(root, "verifiable", "crossed", weighting=weighting, critic=critic),
            address,
        )
    )
    found = result(root, "verifiable-crossed")
    assert found["steps"] == STEPS and 0 < found["after"]["val_weight_ess"] < 1
    assert found["critic_forwards"] > 0


def test_a_control_trains_with_the_critic_of_shuffled_labels(root: Path, address: str) -> None:
    finish(
        start(
            "critic",
            tiny_config(root, "critic", "random", objective={"method": "ranking", "shuffle_labels": True}),
            address,
        )
    )
    weighting = {"method": "class_position_matched", "normalize": "mean_one", "eos_weight": "one"}
    sections = {"weighting": weighting, "critic": {"run": "random", "window": 3}}
    finish(start("verifiable", tiny_config(root, "verifiable", "matched", **sections), address))
    assert 0 < result(root, "verifiable-matched")["after"]["val_weight_ess"] <= 1
