"""Where the models of an evaluation lie on disk; a run's checkpoint is first made a model that engines can load.

```
<run>/exports/step-00000120/  model/  adapter/  manifest.json      of checkpoint 120
```
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from wmtp_ray.config.evaluate import EvaluatedModel
from wmtp_ray.config.jobs import PolicyJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.errors import ConfigError, ModelError, StorageError
from wmtp_ray.models import MTPPolicy, model_fingerprint, resolve_model
from wmtp_ray.storage import verify_manifest, write_manifest
from wmtp_ray.storage.manifest import read_manifest, sha256_of_file
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.checkpoint import KIND as CHECKPOINT
from wmtp_ray.training.checkpoint import complete_checkpoints
from wmtp_ray.training.metrics_file import read_metrics

EXPORT = "policy"
BEST_BY = "val_loss_unweighted"
"""Decides which checkpoint is best where training did not say."""


@dataclass(frozen=True)
class LocatedModel:
    """A model of the table: a plain Hugging Face directory, and an adapter on top of it or None."""

    name: str
    directory: Path
    adapter: Path | None
    fingerprint: str

    @property
    def lora_rank(self) -> int:
        """Rank of the adapter, 0 without one."""
        return 0 if self.adapter is None else int(_adapter_config(self.name, self.adapter)["r"])


def locate(model: EvaluatedModel, root: Path) -> LocatedModel:
    """Where `model` lies; a checkpoint of a run is exported if it was not.

    Errors: `StorageError` for an unfinished run or a missing checkpoint, `ModelError` for an unusable model or adapter.
    """
    if model.run is not None:
        run = RunDirectory(root / "runs" / model.run)
        export = run.export if model.checkpoint is None else export_checkpoint(run, model.checkpoint, root)
        fingerprint = verify_manifest(export, EXPORT).fingerprint
        if not model.as_adapter:
            return LocatedModel(model.name, export / "model", None, fingerprint)
        base = Path(_adapter_config(model.name, export / "adapter")["base_model_name_or_path"])
        return LocatedModel(model.name, resolve_model(base, root / "models"), export / "adapter", fingerprint)
    directory = resolve_model(str(model.model), root / "models")
    fingerprint = model_fingerprint(directory)
    if model.adapter is None:
        return LocatedModel(model.name, directory, None, fingerprint)
    adapter = model.adapter.expanduser()
    _adapter_config(model.name, adapter)
    hashes = [sha256_of_file(path) for path in sorted(adapter.glob("adapter_*"))]
    combined = hashlib.sha256("".join([fingerprint, *hashes]).encode()).hexdigest()
    return LocatedModel(model.name, directory, adapter, combined)


def export_checkpoint(run: RunDirectory, which: str | int, root: Path) -> Path:
    """The directory with the policy of a checkpoint as engines load it: `best`, `last`, or that of a step."""
    directory = find_checkpoint(run, which)
    fingerprint = verify_manifest(directory, CHECKPOINT).fingerprint
    target = run.path / "exports" / directory.name
    if target.exists():
        try:
            if read_manifest(target, EXPORT).facts.get("checkpoint") == fingerprint:
                return target
        except StorageError:  # its writer was killed
            pass
        shutil.rmtree(target)
    config = _policy_config(run)
    policy = MTPPolicy.from_config(config.model, seed=config.seed, cache_dir=root / "models")
    policy.load_trainable_state_dict(load_file(directory / "model.safetensors"))
    target.mkdir(parents=True)
    policy.export_hf(target / "model")
    if config.model.lora is not None:
        policy.save_adapter(target / "adapter")
    write_manifest(target, EXPORT, model=config.model.model_dump(mode="json"), checkpoint=fingerprint)
    return target


def find_checkpoint(run: RunDirectory, which: str | int) -> Path:
    """The directory of a checkpoint. `best` is what training declared best, else the one after which the held-out
    loss was lowest. `StorageError` says which there are."""
    steps = {int(path.name.removeprefix("step-")): path for path in complete_checkpoints(run.checkpoints)}
    if not steps:
        raise StorageError(f"{run.path} has no checkpoint; train it first, or leave checkpoint out")
    newest = steps[max(steps)]
    step = (
        max(steps) if which == "last" else _best_step(run, newest, set(steps)) if which == "best" else which
    )
    if step not in steps:
        there = ", ".join(map(str, sorted(steps)))
        raise StorageError(f"{run.path} has no checkpoint of step {step}; there are those of {there}")
    return steps[int(step)]


def _best_step(run: RunDirectory, newest: Path, steps: set[int]) -> int:
    declared = json.loads((newest / "state.json").read_text()).get("best")
    if declared is not None:
        return declared["step"]
    losses = {
        record["step"]: record[BEST_BY]
        for record in read_metrics(run.metrics)
        if BEST_BY in record and record["step"] in steps
    }
    if not losses:
        raise StorageError(
            f"{run.path}: no checkpoint has a validation after it, so none is best; set validation.every_steps as "
            "checkpoint.every_steps, or name a step or last"
        )
    return min(losses, key=lambda step: (losses[step], step))


def _policy_config(run: RunDirectory) -> PolicyJobConfig:
    path = run.path / "config.yaml"
    try:
        return validate(PolicyJobConfig, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except ConfigError as error:
        raise ConfigError(f"{run.path.name} is no run of a policy ({error}); name another run") from error


def _adapter_config(name: str, adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise ModelError(
            f"model {name}: {adapter} is no PEFT adapter (no adapter_config.json); a policy finetuned in full has "
            "none: leave as_adapter out"
        )
    return json.loads(path.read_text())
