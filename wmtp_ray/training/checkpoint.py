"""Checkpoints: everything a run needs to go on as if nothing had happened, complete once the manifest is written.

```
checkpoints/step-00000120/  model.safetensors  optimizer.pt  state.json  manifest.json
```
`model.safetensors` holds the trainable parameters only; the rest is the backbone, named by its fingerprint in the
state. No random-number state is kept: every micro-batch seeds its own generator from (seed, step, number), so dropout
does not depend on where a run was cut or on how many workers it has. The plan position is the step, and the learning
rate is a function of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wmtp_ray.errors import StorageError
from wmtp_ray.storage.manifest import read_manifest, verify_manifest, write_manifest

KIND = "checkpoint"


class BestStep(BaseModel):
    """The step after which the metric that decides was best, and what it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    value: float
    metric: str
    best_is: Literal["lowest", "highest"]


class TrainingState(BaseModel):
    """The small part of a checkpoint. `step` counts finished optimizer steps: the next one is plan step `step`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    objective: dict[str, Any]
    fingerprints: dict[str, str]
    """Of the plan, the data, the backbone and the critic: all must be the same when training goes on."""
    trained_steps: str
    """Hash of the plan's steps so far: a plan that begins alike is gone on with at `step`."""
    best: BestStep | None = None


class Checkpoint(BaseModel):
    """A loaded checkpoint."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    state: TrainingState
    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]


def save_checkpoint(
    root: Path, state: TrainingState, parameters: dict[str, Tensor], optimizer: dict[str, Any], keep: int
) -> Path:
    """Write the checkpoint of `state.step` below `root`, then delete all but this one, the best one and the newest
    `keep` others that are complete. Later steps than this one are deleted, too: training went on from before them
    because they were damaged.

    Raises `StorageError` where the disk is full; the older checkpoints are then still there.
    """
    directory = _directory(root, state.step)
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        save_file(
            {name: p.detach().contiguous().cpu() for name, p in parameters.items()},
            directory / "model.safetensors",
        )
        torch.save(optimizer, directory / "optimizer.pt")
        (directory / "state.json").write_text(state.model_dump_json())
        write_manifest(directory, KIND, step=state.step)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        shutil.rmtree(directory, ignore_errors=True)
        free = shutil.disk_usage(root).free if root.exists() else 0
        raise StorageError(
            f"cannot save checkpoint {directory}, where {free:,} bytes are free now: {error}; "
            "free space and run the same command"
        ) from error
    kept = {directory} | ({_directory(root, state.best.step)} if state.best else set())
    others = [path for path in complete_checkpoints(root) if path < directory and path not in kept]
    kept |= set(others[len(others) - keep :] if keep < len(others) else others)
    for other in set(root.glob("step-*")) - kept:
        shutil.rmtree(other)
    return directory


def complete_checkpoints(root: Path) -> list[Path]:
    """The directories below `root` that have a checkpoint manifest, oldest first."""
    complete = []
    for directory in sorted(root.glob("step-*")):
        try:
            read_manifest(directory, KIND)
        except StorageError:
            continue
        complete.append(directory)
    return complete


def load_latest(
    root: Path, fingerprints: dict[str, str], may_differ: Collection[str] = ()
) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose files are as its manifest says, and what was found damaged on the way to it.

    Raises `StorageError` where it belongs to other data or models than `fingerprints`, unless `may_differ` names them.
    """
    damaged = []
    for directory in reversed(complete_checkpoints(root)):
        try:
            verify_manifest(directory, KIND)
        except StorageError as error:
            damaged.append(str(error))
            continue
        checkpoint = _load(directory)
        for what, fingerprint in fingerprints.items():
            before = checkpoint.state.fingerprints.get(what)
            if before != fingerprint and what not in may_differ:
                raise StorageError(
                    f"{directory} was trained with another {what} ({before} then, {fingerprint} now); use --fresh, or "
                    "name what may differ in resume_allow (data, model or critic)"
                )
        return checkpoint, damaged
    return None, damaged


def has_step(root: Path, step: int) -> bool:
    """Whether the checkpoint of `step` is complete, and its files are as its manifest says."""
    try:
        verify_manifest(_directory(root, step), KIND)
    except StorageError:
        return False
    return True


def load_step(root: Path, step: int) -> Checkpoint:
    """The checkpoint of `step`, verified; `StorageError` where it is missing or damaged."""
    directory = _directory(root, step)
    verify_manifest(directory, KIND)
    return _load(directory)


def newest_state(root: Path) -> TrainingState | None:
    """The state of the newest complete checkpoint, its other files unread; None where there is none."""
    complete = complete_checkpoints(root)
    return _load_state(complete[-1]) if complete else None


def _directory(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def _load_state(directory: Path) -> TrainingState:
    return TrainingState.model_validate(json.loads((directory / "state.json").read_text()))


def _load(directory: Path) -> Checkpoint:
    return Checkpoint(
        state=_load_state(directory),
        parameters=load_file(directory / "model.safetensors"),
        optimizer=torch.load(directory / "optimizer.pt", map_location="cpu", weights_only=True),
    )
