"""One model per job: what its YAML file under `configs/` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, model_validator

from wmtp_ray.config import checks
from wmtp_ray.config.base import Name, Section
from wmtp_ray.config.critic import CriticObjectiveConfig, RankingConfig, fold_runs
from wmtp_ray.config.data import DataConfig
from wmtp_ray.config.model import PolicyConfig, ValueModelConfig
from wmtp_ray.config.run import (
    CheckpointConfig,
    ClusterConfig,
    OptimizerConfig,
    ScheduleConfig,
    StorageConfig,
    TrackingConfig,
    ValidationConfig,
)
from wmtp_ray.config.weighting import (
    CriticPoolConfig,
    LossConfig,
    ReferencePoolConfig,
    UniformWeighting,
    WeightingConfig,
)


class JobConfig(Section):
    """What every job says."""

    name: Name
    """Identity of the run: the same job and name resume it."""
    storage: StorageConfig = StorageConfig()


class TrainingSections(Section):
    """The sections that every training job has."""

    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()


class TrainingJobConfig(TrainingSections, JobConfig):
    """What every training job says."""

    seed: NonNegativeInt = 0
    """Of which samples are drawn in which order (unless `data.sampling.seed` says otherwise), of what starts at random,
    and of dropout."""
    resume: Path | None = None
    """Absolute path of another run's directory, whose newest checkpoint this run begins with."""
    resume_allow: tuple[str, ...] = ()
    """Keys that may differ from the configuration that the run was started with, such as `data.plan.max_steps`. `data`
    and `critic` also allow other contents under the same name."""

    @model_validator(mode="before")
    @classmethod
    def _one_seed(cls, content: Any) -> Any:
        match content:
            case {"seed": seed, "data": {"sampling": {**sampling}, **data}} if "seed" not in sampling:
                return content | {"data": data | {"sampling": sampling | {"seed": seed}}}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        checks.held_out(self.data)
        checks.curriculum_is_reached(self.data)
        checks.workers_have_work(self.cluster, self.data.plan)
        checks.resumable(self.resume)
        checks.best_is_one_of_several(self.checkpoint, self.validation)
        return self


class CriticJobConfig(TrainingJobConfig):
    """`jobs/critic.py`: train a value model on pairs, by ranking or λ-return."""

    model: ValueModelConfig
    objective: CriticObjectiveConfig = RankingConfig()
    folds: Annotated[int, Field(ge=2)] | None = None
    """Train so many critics, each without one fold of the training problems."""

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        checks.paired(self.data, wanted=True)
        checks.random_labels_choose_nothing(self.objective, self.checkpoint)
        return self

    @property
    def has_second_pass(self) -> bool:
        """Whether each step takes one more forward pass: `objective.pairs: step`, unless no worker has two
        micro-batches."""
        step = isinstance(self.objective, RankingConfig) and self.objective.pairs == "step"
        return step and self.data.plan.micro_batches_per_step > self.cluster.worker_range[0]

    def by_fold(self) -> list[CriticJobConfig]:
        """The configuration of each critic: this one, or one that leaves out a fold for every fold."""
        if self.folds is None:
            return [self]
        parts = []
        for fold, name in enumerate(fold_runs(self.name, self.folds)):
            sampling = self.data.sampling.model_copy(update={"without_fold": (fold, self.folds)})
            data = self.data.model_copy(update={"sampling": sampling})
            parts.append(self.model_copy(update={"name": name, "data": data, "folds": None}))
        return parts


class PolicyJobConfig(TrainingJobConfig):
    """`jobs/{baseline,verifiable,ref_tuning,rho1}.py`: train an MTP policy."""

    model: PolicyConfig
    weighting: WeightingConfig = UniformWeighting()
    loss: LossConfig = LossConfig()
    critic: CriticPoolConfig | None = None
    reference: ReferencePoolConfig | None = None

    @model_validator(mode="after")
    def _singles(self) -> Self:
        checks.paired(self.data, wanted=False)
        checks.scorers_named(self.weighting, self.critic, self.reference)
        checks.one_rate(self.optimizer)
        checks.coefficients(self.loss, self.model)
        checks.extra_heads_trainable(self.model)
        return self
