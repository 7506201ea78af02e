"""Which checkpoint a run goes on from, whether it may, and where in the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmtp_ray.data.plan import COLUMNS, Plan
from wmtp_ray.errors import StorageError
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.checkpoint import Checkpoint, TrainingState, load_latest

KEYS_BEHIND = {
    "plan": ("data",),
    "store": ("data.store",),
    "model": ("model.name",),
    "critic": ("critic.run", "critic.path"),
    "reference": ("reference.run", "reference.path"),
}
"""The configuration keys behind each fingerprint of a checkpoint."""
SCORERS = ("critic", "reference")
"""Those of frozen models, whose scores the statistics of a weighting are of."""


@dataclass(frozen=True)
class Start:
    """The checkpoint that a run begins with, and the step of the plan that comes first."""

    checkpoint: Checkpoint
    is_own: bool
    """Whether it is one of this run, not of another that it continues."""
    step: int
    sentence: str
    """The same for the user."""


def find_start(
    run: RunDirectory,
    resume: Path | None,
    resume_allow: Iterable[str],
    plan: Plan,
    fingerprints: dict[str, str],
) -> tuple[Start | None, list[str]]:
    """The newest checkpoint of `run`, or else of the run directory `resume`, or None; and what was found damaged.

    Raises:
        StorageError: `resume` has none, or has trained the whole plan; a checkpoint is of other data or models, or one
            of this run is of another plan.
    """
    allowed = may_differ(resume_allow)
    checkpoint, damaged = load_latest(run.checkpoints, fingerprints, allowed)
    if checkpoint is not None:
        return _own_start(run, checkpoint, plan), damaged
    if resume is None:
        return None, damaged
    checkpoint, more = load_latest(resume / "checkpoints", fingerprints, allowed)
    if checkpoint is None:
        raise StorageError(f"resume = {resume} has no complete checkpoint; name another run directory")
    return _continued_start(resume, checkpoint, plan), damaged + more


def _own_start(run: RunDirectory, checkpoint: Checkpoint, plan: Plan) -> Start:
    step = checkpoint.state.step
    if trained_steps(plan, step) != checkpoint.state.trained_steps:
        raise StorageError(
            f"{run.path}: the plan's first {step} steps are not those that were trained; give the run "
            f"another name and set resume: {run.path}"
        )
    return Start(checkpoint, True, step, f"resumed after step {step} of {plan.num_steps}")


def _continued_start(resume: Path, checkpoint: Checkpoint, plan: Plan) -> Start:
    step = checkpoint.state.step
    if trained_steps(plan, step) != checkpoint.state.trained_steps:
        sentence = (
            f"took over model and optimizer after step {step} of {resume}; the plan is another one and begins with "
            "its first step"
        )
        return Start(checkpoint, False, 0, sentence)
    if step >= plan.num_steps:
        raise StorageError(
            f"resume = {resume} has trained all {step} steps of this plan; raise data.plan.epochs or "
            "data.plan.max_steps, or change data"
        )
    return Start(checkpoint, False, step, f"resumed after step {step} of {plan.num_steps}, begun in {resume}")


def same_weighting(state: TrainingState, objective: dict[str, Any], fingerprints: dict[str, str]) -> bool:
    """Whether the statistics in a checkpoint are of the weighting, and of the frozen models, of now."""
    if state.objective.keys() != objective.keys():
        return False
    if state.objective.get("weighting") != objective.get("weighting"):
        return False
    return all(state.fingerprints.get(s) == fingerprints.get(s) for s in SCORERS)


def may_differ(resume_allow: Iterable[str]) -> frozenset[str]:
    """The fingerprints that may differ where the user allows these configuration keys to.

    Example: `["data.plan.max_steps"]` -> {plan}; `["data"]` -> {plan, store}; `["critic"]` -> {critic}.
    """
    allowed = tuple(resume_allow)
    return frozenset(
        what
        for what, keys in KEYS_BEHIND.items()
        for key in keys
        if any(_within(key, a) or (what == "plan" and _within(a, key)) for a in allowed)
    )


def trained_steps(plan: Plan, steps: int) -> str:
    """SHA-256 (hex) over the first `steps` steps of a plan: equal where two plans begin alike."""
    end = int(np.searchsorted(plan.columns["step"], steps))
    digest = hashlib.sha256()
    for name, dtype in COLUMNS.items():
        digest.update(plan.columns[name][:end].astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")
