"""Checkpoints: everything a run needs to go on as if nothing had happened, complete once the manifest is written.

```
checkpoints/step-00000120/  model.safetensors  optimizer.pt  state.json  manifest.json
```
`model.safetensors` holds the trainable parameters only; the rest is the backbone, named by its fingerprint in the
facts. No random-number state is kept: every micro-batch seeds its own generator from (seed, step, number), so dropout
does not depend on where a run was cut or on how many workers it has. The plan position is the step.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wmtp_ray.errors import StorageError
from wmtp_ray.storage.manifest import read_manifest, verify_manifest, write_manifest

KIND = "checkpoint"


class TrainingState(BaseModel):
    """The small part of a checkpoint. `step` counts finished optimizer steps: the next one is plan step `step`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    schedule: dict[str, Any]
    objective: dict[str, Any]
    fingerprints: dict[str, str]
    """Of the plan, the data, the backbone and the critic: all must be the same when training goes on."""


class Checkpoint(BaseModel):
    """A loaded checkpoint."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    state: TrainingState
    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]


def save_checkpoint(
    root: Path, state: TrainingState, parameters: dict[str, Tensor], optimizer: dict[str, Any], keep: int
) -> Path:
    """Write the checkpoint of `state.step` below `root`, then delete all but the newest `keep` complete ones. Later
    steps than this one are deleted, too: training went on from before them because they were damaged.

    Raises `StorageError` where the disk is full; the older checkpoints are then still there.
    """
    directory = root / f"step-{state.step:08d}"
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
    kept = [path for path in complete_checkpoints(root) if path <= directory][-keep:]
    for other in set(root.glob("step-*")) - set(kept):
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


def load_latest(root: Path, fingerprints: dict[str, str]) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose files are as its manifest says, and what was found damaged on the way to it.

    Raises `StorageError` where it belongs to other data or models than `fingerprints`.
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
            if before != fingerprint:
                raise StorageError(
                    f"{directory} was trained with another {what} ({before} then, {fingerprint} now); use --fresh"
                )
        return checkpoint, damaged
    return None, damaged


def _load(directory: Path) -> Checkpoint:
    return Checkpoint(
        state=TrainingState.model_validate(json.loads((directory / "state.json").read_text())),
        parameters=load_file(directory / "model.safetensors"),
        optimizer=torch.load(directory / "optimizer.pt", weights_only=True),
    )
