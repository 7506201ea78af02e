"""Checkpoints: exact, complete or passed over, pruned, and safe on a full disk."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wmtp_ray.errors import StorageError
from wmtp_ray.training.checkpoint import (
    BestStep,
    TrainingState,
    complete_checkpoints,
    has_step,
    load_latest,
    load_step,
    newest_state,
    save_checkpoint,
)

FINGERPRINTS = {"plan": "p", "model": "m"}


def state(step: int, best: int | None = None) -> TrainingState:
    return TrainingState(
        step=step,
        objective={"ema": {"mean": 0.1 + 0.2, "std": 1 / 3, "updates": step}},
        fingerprints=FINGERPRINTS,
        trained_steps=f"hash of {step} steps",
        best=None
        if best is None
        else BestStep(step=best, value=0.1 + 0.2, metric="val_loss", best_is="lowest"),
    )


def parameters(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "a.weight": torch.randn(40, 50, generator=generator),
        "b": torch.randn(7, generator=generator).bfloat16(),
        "view": torch.randn(4, 6, generator=generator).T,
    }


def optimizer_state(step: int) -> dict[str, Any]:
    trained = torch.nn.Parameter(parameters(step)["a.weight"])
    optimizer = torch.optim.AdamW([{"params": [trained], "lr": 0.1, "initial_lr": 0.1}])
    trained.grad = torch.ones_like(trained)
    optimizer.step()
    return optimizer.state_dict()


def save(root: Path, step: int, keep: int = 1, best: int | None = None) -> Path:
    return save_checkpoint(root, state(step, best), parameters(step), optimizer_state(step), keep)


def steps(root: Path) -> list[int]:
    return [int(p.name.removeprefix("step-")) for p in complete_checkpoints(root)]


def test_round_trip_is_exact(tmp_path: Path) -> None:
    save(tmp_path, 3)
    checkpoint, damaged = load_latest(tmp_path, FINGERPRINTS)
    assert checkpoint is not None and damaged == []
    assert checkpoint.state == state(3)
    for name, tensor in parameters(3).items():
        assert torch.equal(checkpoint.parameters[name], tensor)
        assert checkpoint.parameters[name].dtype == tensor.dtype
    saved = optimizer_state(3)
    assert checkpoint.optimizer["param_groups"] == saved["param_groups"]
    for name, value in saved["state"][0].items():
        assert torch.equal(checkpoint.optimizer["state"][0][name], value)


def test_nothing_there(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "none", FINGERPRINTS) == (None, [])
    assert load_latest(tmp_path, FINGERPRINTS) == (None, [])


def test_the_last_the_best_and_some_others_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 11, 100):
        save(tmp_path, step)
    assert steps(tmp_path) == [11, 100]
    save(tmp_path, 101, keep=0)
    assert steps(tmp_path) == [101]
    save(tmp_path, 101, keep=0)  # the same step anew
    assert steps(tmp_path) == [101]
    for step in (102, 103, 104):
        save(tmp_path, step, best=101)
    assert steps(tmp_path) == [101, 103, 104]
    save(tmp_path, 105, best=105, keep=2)
    assert steps(tmp_path) == [103, 104, 105]
    assert newest_state(tmp_path) == state(105, 105)
    assert load_step(tmp_path, 103).state == state(103, 101)
    with pytest.raises(StorageError, match="step-00000101 does not exist"):
        load_step(tmp_path, 101)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "state.json"])
def test_a_damaged_newest_is_passed_over_with_a_message(tmp_path: Path, file: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    assert has_step(tmp_path, 2)
    os.truncate(newest / file, (newest / file).stat().st_size - 1)
    assert has_step(tmp_path, 1) and not has_step(tmp_path, 2)
    checkpoint, damaged = load_latest(tmp_path, FINGERPRINTS)
    assert checkpoint is not None and checkpoint.state.step == 1
    assert len(damaged) == 1 and f"{newest}: {file} changed since its manifest" in damaged[0]


def test_one_without_manifest_does_not_exist(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / "manifest.json").unlink()
    checkpoint, damaged = load_latest(tmp_path, FINGERPRINTS)
    assert checkpoint is not None and checkpoint.state.step == 1
    assert damaged == []


def test_all_damaged_starts_anew_and_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step) / "state.json").write_text("{}")
    checkpoint, damaged = load_latest(tmp_path, FINGERPRINTS)
    assert checkpoint is None and len(damaged) == 2


def test_what_was_passed_over_never_displaces_what_is_good(tmp_path: Path) -> None:
    """Resumed after step 2 because 4 was damaged; with keep 0, the new checkpoint 3 is the one that stays."""
    save(tmp_path, 2)
    os.truncate(save(tmp_path, 4) / "optimizer.pt", 10)
    (tmp_path / "step-00000005").mkdir()  # killed while it was written
    save(tmp_path, 3, keep=0)
    checkpoint, damaged = load_latest(tmp_path, FINGERPRINTS)
    assert checkpoint is not None and checkpoint.state.step == 3 and damaged == []
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize("what", FINGERPRINTS)
def test_other_data_or_models_are_refused(tmp_path: Path, what: str) -> None:
    save(tmp_path, 1)
    with pytest.raises(StorageError, match=f"trained with another {what} .* now\\); use --fresh, or name"):
        load_latest(tmp_path, FINGERPRINTS | {what: "other"})
    with pytest.raises(StorageError, match="another critic"):
        load_latest(tmp_path, FINGERPRINTS | {"critic": "c"})


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """Writes beyond `limit` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("limit", "file"), [(1000, "the model"), (9000, "the optimizer")])
def test_a_full_disk_leaves_the_older_ones(tmp_path: Path, limit: int, file: str) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    with files_no_larger_than(limit), pytest.raises(StorageError) as raised:
        save(tmp_path, 3)
    assert "step-00000003" in str(raised.value)
    assert "free space and run the same command" in str(raised.value)
    checkpoint, damaged = load_latest(tmp_path, FINGERPRINTS)
    assert checkpoint is not None and checkpoint.state.step == 2 and damaged == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
