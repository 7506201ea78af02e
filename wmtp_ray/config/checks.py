"""Checks across sections of a job's configuration. Each error names both keys and the remedy."""

from __future__ import annotations

from pathlib import Path

from wmtp_ray.config.critic import CriticObjectiveConfig
from wmtp_ray.config.data import DataConfig, PlanConfig
from wmtp_ray.config.model import PolicyConfig
from wmtp_ray.config.run import CheckpointConfig, ClusterConfig, OptimizerConfig, ValidationConfig
from wmtp_ray.config.weighting import (
    CriticPoolConfig,
    LossConfig,
    ReferencePoolConfig,
    ScorePoolConfig,
    WeightingConfig,
)


def held_out(data: DataConfig) -> None:
    """Validation samples come from other problems than training samples."""
    if data.sampling.split == data.validation.split:
        raise ValueError(
            f"data.validation.split and data.sampling.split are both {data.sampling.split}; validate on valid or test"
        )


def random_labels_choose_nothing(objective: CriticObjectiveConfig, checkpoint: CheckpointConfig) -> None:
    """A critic of random labels is not chosen by true ones."""
    if objective.shuffle_labels and checkpoint.export == "best":
        raise ValueError(
            "objective.shuffle_labels = true with checkpoint.export = best would choose the step that happens to rank "
            "the true labels best; set checkpoint.export=last, for the critic that it is compared with too"
        )


def best_is_one_of_several(checkpoint: CheckpointConfig, validation: ValidationConfig) -> None:
    """The best step is chosen among validations, not the only one there is."""
    if checkpoint.export == "best" and validation.every_steps is None:
        raise ValueError(
            "checkpoint.export = best with validation.every_steps = null would be the last step, the only one that is "
            "validated; set validation.every_steps to a number or checkpoint.export to last"
        )


def curriculum_is_reached(data: DataConfig) -> None:
    """Every stage of a curriculum has an epoch to apply to."""
    if data.validation.curriculum:
        raise ValueError("data.validation.curriculum: a validation plan has one epoch only; remove it")
    for stage in data.sampling.curriculum:
        if stage.from_epoch >= data.plan.epochs:
            raise ValueError(
                f"data.sampling.curriculum has a stage from epoch {stage.from_epoch}, but data.plan.epochs = "
                f"{data.plan.epochs:g} ends before it; raise the second or remove the stage"
            )


def workers_have_work(cluster: ClusterConfig, plan: PlanConfig) -> None:
    """No train worker would be idle in every step, and a range of workers is one."""
    (fewest, workers), micro_batches = cluster.worker_range, plan.micro_batches_per_step
    if fewest > workers:
        raise ValueError(f"cluster.num_workers = [{fewest}, {workers}] is [fewest, most]; swap the numbers")
    if workers > micro_batches:
        raise ValueError(
            f"cluster.num_workers = {workers} is more than data.plan.micro_batches_per_step = {micro_batches}, so some "
            "would never have work; lower the first or raise the second"
        )


def resumable(resume: Path | None) -> None:
    """`resume` names a directory that every node and every start finds."""
    if resume is not None and not resume.is_absolute():
        raise ValueError(f"resume = {str(resume)!r} is relative; give the absolute path of a run directory")


def paired(data: DataConfig, wanted: bool) -> None:
    """A ranking critic trains and validates on pairs, a policy on single solutions."""
    for key, sampling in (("sampling", data.sampling), ("validation", data.validation)):
        if sampling.paired != wanted:
            choices = "pairs or length_balanced_pairs" if wanted else "correct or all"
            raise ValueError(
                f"data.{key}.solutions = {sampling.solutions} does not fit this job; choose {choices}"
            )


def scorers_named(
    weighting: WeightingConfig, critic: CriticPoolConfig | None, reference: ReferencePoolConfig | None
) -> None:
    """Critic weights need one critic, Rho-1 one reference model, and nothing else needs either."""
    method = weighting.method
    for section, pool in (("critic", critic), ("reference", reference)):
        if weighting.scorer == section and pool is None:
            raise ValueError(
                f"weighting.method = {method} needs a {section} section; set {section}.run or {section}.path"
            )
        if weighting.scorer != section and pool is not None:
            raise ValueError(f"weighting.method = {method} reads no {section}; remove the {section} section")
        if pool is not None:
            scorer_named(section, pool)


def scorer_named(section: str, pool: ScorePoolConfig) -> None:
    """A frozen model is named in one way, which fits how it is run."""
    if (pool.run is None) == (pool.path is None):
        raise ValueError(
            f"{section}.run = {pool.run!r} and {section}.path = {pool.path!r}; set exactly one of them"
        )
    if pool.path and not Path(pool.path).expanduser().is_absolute():
        raise ValueError(f"{section}.path = {pool.path!r} is relative; give an absolute path")
    if not isinstance(pool, CriticPoolConfig):
        return
    if (pool.backend == "serve") != (pool.url is not None):
        raise ValueError(
            f"{section}.backend = {pool.backend} and {section}.url = {pool.url!r}; a URL belongs to serve alone"
        )
    if pool.folds and pool.run is None:
        raise ValueError(f"{section}.folds = {pool.folds} needs {section}.run, the name of a run with folds")


def one_rate(optimizer: OptimizerConfig) -> None:
    """A policy's heads have no learning rate of their own."""
    if optimizer.head_learning_rate is not None:
        raise ValueError(
            f"optimizer.head_learning_rate = {optimizer.head_learning_rate} is of a critic's value head; remove it"
        )


def extra_heads_trainable(model: PolicyConfig) -> None:
    """Without adapters everything trains in full, the extra heads too."""
    if model.lora is None and model.head_training == "lora":
        raise ValueError("model.lora = null needs model.head_training = full; set it, or give model.lora")


def coefficients(loss: LossConfig, model: PolicyConfig) -> None:
    """One loss coefficient per head, not all of them 0."""
    given, heads = loss.head_coefficients, model.num_heads
    if given is None:
        return
    if len(given) != heads:
        raise ValueError(
            f"loss.head_coefficients has {len(given)} numbers, model.num_heads is {heads}; give one each"
        )
    if not sum(given) > 0:
        raise ValueError("loss.head_coefficients are all 0; give at least one head weight")
