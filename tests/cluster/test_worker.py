"""What a train worker does before it touches the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from transformers import PreTrainedTokenizerFast

from jobs.critic import CriticSide
from tests.config.recipes import critic_recipe, policy_recipe
from tests.training.scenes import CPU, make_scene
from wmtp_ray.client import ServiceRefusal
from wmtp_ray.cluster.policy import PolicySide
from wmtp_ray.cluster.train import _raise_recorded
from wmtp_ray.cluster.worker import WorkerSpec, _kind, train_worker
from wmtp_ray.config import CriticJobConfig, PolicyJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.config.run import ClusterConfig, TrackingConfig
from wmtp_ray.errors import DataError, StorageError, WMTPError
from wmtp_ray.storage.runs import RunDirectory


def test_a_start_that_was_superseded_leaves_the_newer_ones_files_alone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    old, _ = run.begin_attempt(), run.begin_attempt()
    run.metrics.write_text('{"step": 7}\n')
    nothing = cast(Any, None)
    spec = WorkerSpec(
        job=nothing,
        trainer=nothing,
        cluster=ClusterConfig(),
        run=tmp_path,
        attempt=old,
        store=tmp_path,
        backbone=tmp_path,
        fingerprints={},
        tracking=TrackingConfig(),
        described={},
    )
    with pytest.raises(StorageError, match="taken over by a newer start"):
        train_worker(spec)
    assert run.metrics.read_text() == '{"step": 7}\n' and run.failure is None


@pytest.mark.parametrize(
    ("met", "told"),
    [
        (DataError("row 3"), DataError),
        (ServiceRefusal("refused (401)"), WMTPError),
        (KeyError("x"), RuntimeError),
    ],
)
def test_the_driver_tells_what_a_worker_met(tmp_path: Path, met: Exception, told: type[Exception]) -> None:
    run = RunDirectory(tmp_path)
    run.record_failure(_kind(met), str(met), "Traceback ...")
    with pytest.raises(told) as raised:
        _raise_recorded(run)
    assert type(raised.value) is told and str(met) in str(raised.value) + "Traceback 'x'"


def test_a_worker_builds_on_the_directory_that_the_driver_resolved(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    """The name, which may cost a hash of the whole source, is not resolved again: here nothing has it."""
    backbone, unknown = make_scene(tmp_path, byte_tokenizer).model, {"name": "nobody/no-model"}
    plain = policy_recipe(model=unknown | {"num_heads": 2}, weighting={"method": "uniform"}, critic=None)
    policy = validate(PolicyJobConfig, plain, "a test")
    critic = validate(CriticJobConfig, critic_recipe(model=unknown), "a test")
    for side in (PolicySide(policy), CriticSide(critic)):
        assert side.build(CPU, backbone).model.source == backbone
