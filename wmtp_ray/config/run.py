"""Configuration of a run: storage, cluster resources, optimiser, schedule, checkpoints, validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from wmtp_ray.config.base import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class StorageConfig(Section):
    """Where stores, runs, converted models and score caches live."""

    root: Annotated[Path, Field(validate_default=True)] = Path("~/wmtp")
    """An absolute directory (`~` allowed), shared by all nodes of a cluster. Never relative: a submitted job runs in a
    temporary copy of the working directory."""

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: Path) -> Path:
        root = root.expanduser()
        if not root.is_absolute():
            raise ValueError(f"storage.root = {str(root)!r} is relative; give an absolute path")
        return root


class ClusterConfig(Section):
    """Train workers and what each may use."""

    num_workers: PositiveInt = 1
    cpus_per_worker: NonNegativeFloat = 1.0
    gpus_per_worker: NonNegativeFloat = 0.0
    threads_per_worker: PositiveInt = 1
    """Torch threads of a train worker. Bitwise repeatability on CPU needs the same number."""
    max_failures: NonNegativeInt = 3
    """How often the group of workers is restarted from the last checkpoint before the job fails."""
    read_cpus: NonNegativeFloat = 0.25
    """Logical CPUs of one task that reads and tokenises."""
    read_tasks: PositiveInt = 1
    """Read tasks that may run at a time for one worker; each is a process that imports the tokenizer's libraries."""
    steps_per_read: PositiveInt = 4
    """Optimizer steps that one read task prepares for one worker."""


class OptimizerConfig(Section):
    """AdamW."""

    learning_rate: PositiveFloat = 1e-4
    head_learning_rate: PositiveFloat | None = None
    """Of the value head; null = `learning_rate`."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0


class ScheduleConfig(Section):
    """Learning-rate schedule over all steps of the plan."""

    shape: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: Fraction = 0.03
    """Share of all steps over which the rate rises linearly from 0."""


class CheckpointConfig(Section):
    """When the state of training is saved, and how much is kept."""

    every_steps: PositiveInt = 50
    keep: PositiveInt = 2
    """How many of the newest checkpoints are kept."""


class ValidationConfig(Section):
    """Validation on the held-out plan: before the first step, every n steps, and after the last."""

    every_steps: PositiveInt | None = None
    """null = only before the first and after the last step."""
