"""Checks across sections of a job's configuration. Each error names both keys and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_ray.config.weighting import CriticWeighting

if TYPE_CHECKING:
    from wmtp_ray.config.jobs import DataConfig, PolicyJobConfig, TrainingJobConfig


def held_out(data: DataConfig) -> None:
    """Validation samples come from other problems than training samples."""
    if data.sampling.split == data.validation.split:
        raise ValueError(
            f"data.validation.split and data.sampling.split are both {data.sampling.split}; validate on valid or test"
        )


def workers_have_work(job: TrainingJobConfig) -> None:
    """No train worker would be idle in every step."""
    workers, micro_batches = job.cluster.num_workers, job.data.plan.micro_batches_per_step
    if workers > micro_batches:
        raise ValueError(
            f"cluster.num_workers = {workers} is more than data.plan.micro_batches_per_step = {micro_batches}, so some "
            "would never have work; lower the first or raise the second"
        )


def paired(data: DataConfig, wanted: bool) -> None:
    """A ranking critic trains and validates on pairs, a policy on single solutions."""
    for key, sampling in (("sampling", data.sampling), ("validation", data.validation)):
        if sampling.paired != wanted:
            choices = "pairs or length_balanced_pairs" if wanted else "correct or all"
            raise ValueError(
                f"data.{key}.solutions = {sampling.solutions} does not fit this job; choose {choices}"
            )


def critic_named(job: PolicyJobConfig) -> None:
    """Critic weights need one critic, and nothing else does."""
    needs = isinstance(job.weighting, CriticWeighting)
    if needs and job.critic is None:
        raise ValueError("weighting.method = critic needs a critic section; set critic.run or critic.path")
    if not needs and job.critic is not None:
        raise ValueError(
            f"weighting.method = {job.weighting.method} reads no critic; remove the critic section"
        )
    if job.critic and (job.critic.run is None) == (job.critic.path is None):
        raise ValueError(
            f"critic.run = {job.critic.run!r} and critic.path = {job.critic.path!r}; set exactly one of them"
        )
    if job.critic and job.critic.path and not Path(job.critic.path).expanduser().is_absolute():
        raise ValueError(f"critic.path = {job.critic.path!r} is relative; give an absolute path")
    if isinstance(job.weighting, CriticWeighting) and job.weighting.min_weight > job.weighting.max_weight:
        raise ValueError(
            f"weighting.min_weight = {job.weighting.min_weight} is more than weighting.max_weight = "
            f"{job.weighting.max_weight}; lower it"
        )


def undiscounted(job: PolicyJobConfig) -> None:
    """A ranking critic, the only kind there is, has values without scale or offset: discounting them means nothing."""
    if isinstance(job.weighting, CriticWeighting) and job.weighting.gamma != 1:
        raise ValueError(
            f"weighting.gamma = {job.weighting.gamma}: the values of a ranking critic (critic.run or critic.path) "
            "cannot be discounted; set it to 1"
        )


def extra_heads_trainable(job: PolicyJobConfig) -> None:
    """Without adapters everything trains in full, the extra heads too."""
    if job.model.lora is None and job.model.head_training == "lora":
        raise ValueError("model.lora = null needs model.head_training = full; set it, or give model.lora")


def coefficients(job: PolicyJobConfig) -> None:
    """One loss coefficient per head, not all of them 0."""
    given, heads = job.loss.head_coefficients, job.model.num_heads
    if given is None:
        return
    if len(given) != heads:
        raise ValueError(
            f"loss.head_coefficients has {len(given)} numbers, model.num_heads is {heads}; give one each"
        )
    if not sum(given) > 0:
        raise ValueError("loss.head_coefficients are all 0; give at least one head weight")
