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

    num_workers: PositiveInt | tuple[PositiveInt, PositiveInt] = 1
    """A number, or [fewest, most]: with less than `most` training goes on, and grows again when there is room."""
    grow_every_seconds: PositiveFloat = 60.0
    """With a range: how often to look for room for one more worker. To grow, all save a checkpoint and start again."""
    parallelism: Literal["ddp", "fsdp2"] = "ddp"
    """`ddp`: every worker holds the whole model. `fsdp2`: decoder layers are sharded over the workers."""
    cpus_per_worker: NonNegativeFloat = 1.0
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = 0
    """0 or 1: a train worker is one process on one device."""
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

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most workers."""
        if isinstance(self.num_workers, tuple):
            return self.num_workers
        return self.num_workers, self.num_workers


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
    """Share of all steps over which the rate rises linearly, its first step above 0."""


class CheckpointConfig(Section):
    """When the state of training is saved, what is kept of it, and what is exported. The newest checkpoint is always
    kept, and so is the best one: that of the validation at which `best_metric` was best."""

    every_steps: PositiveInt = 50
    keep: NonNegativeInt = 1
    """How many others are kept, the newest ones."""
    best_metric: str = "val_loss"
    """A metric of validation, as `metrics.jsonl` names it."""
    best_is: Literal["lowest", "highest"] = Field(
        default_factory=lambda given: _best_is(given["best_metric"])
    )
    """By default `highest` for an accuracy or a margin, else `lowest`."""
    export: Literal["last", "best"] = "last"


def _best_is(metric: str) -> Literal["lowest", "highest"]:
    return "highest" if metric.endswith(("accuracy", "margin")) else "lowest"


class MLflowConfig(Section):
    """An MLflow tracking server."""

    uri: str
    """`http://...`, or `file:///...` for files in a directory that all nodes share."""
    experiment: str = "wmtp"


class TrackingConfig(Section):
    """Where metrics go besides `metrics.jsonl` and Ray's own metrics."""

    tensorboard: bool = False
    """Event files in `tensorboard/` of the run directory."""
    mlflow: MLflowConfig | None = None


class ValidationConfig(Section):
    """Validation on the held-out plan: before the first step, every n steps, and after the last."""

    every_steps: PositiveInt | None = None
    """null = only before the first and after the last step."""
    before_training: bool = True
    """false: not before the first step. A critic whose head starts at zero has nothing to validate there."""
