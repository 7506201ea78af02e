"""What `--dry-run` prints of a training job: the configuration, steps and tokens, memory, and critics to keep up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from wmtp_ray.cluster.scoring import ScorerUse
from wmtp_ray.config import PolicyJobConfig, TrainingJobConfig
from wmtp_ray.config.model import BackboneConfig, ValueModelConfig
from wmtp_ray.data.plan import Plan
from wmtp_ray.models.flops import TokenWork, critics_needed, forward_flops, training_flops
from wmtp_ray.models.memory import estimate_memory, estimate_scorer_memory
from wmtp_ray.models.shapes import DecoderSize, model_shape
from wmtp_ray.models.value_model import read_card

PRODUCTION_SCORER = "princeton-nlp/Sheared-LLaMA-2.7B"
DEVICE_GB = 80
"""Memory of the device that the production configurations are written for (H100)."""
ASSUMED_TARGETS = 0.5


@dataclass(frozen=True)
class Work:
    """How much there is to train on: as planned, or, without the store, as the configuration says."""

    steps: int
    tokens: str
    largest: int
    """Tokens of the largest micro-batch, padding included."""
    target_share: float
    exact: bool

    @classmethod
    def planned(cls, plan: Plan) -> Work:
        """What the plan says."""
        largest = max(math.prod(m.shape) for step in plan.steps() for m in step.micro_batches)
        share = float(plan.columns["targets"].sum() / plan.columns["tokens"].sum())
        return cls(plan.num_steps, f"{plan.useful_tokens:,} tokens", largest, share, exact=True)

    @classmethod
    def configured(cls, config: TrainingJobConfig) -> Work | None:
        """What the configuration alone says; None where samples or their size are left to the store."""
        plan, samples = config.data.plan, config.data.sampling.num_samples
        row = plan.row_tokens or plan.tokens_per_micro_batch
        if samples is None or row is None or plan.samples_per_micro_batch is None:
            return None
        sides = 2 if config.data.sampling.paired else 1
        steps = math.ceil(
            plan.epochs * samples / (plan.samples_per_micro_batch * plan.micro_batches_per_step)
        )
        steps = min(steps, plan.max_steps or steps)
        # Full rows of half its length each: a micro-batch has at most as many rows as samples.
        largest = sides * plan.samples_per_micro_batch * row // 2
        most = f"at most {plan.epochs * samples * sides * row / 2:,.0f} tokens"
        return cls(steps, most, largest, ASSUMED_TARGETS, exact=False)


def described(config: TrainingJobConfig, plan: Plan | None, scorer: ScorerUse | None) -> Iterator[str]:
    """The lines beside the plan's own: memory per worker and per scoring actor, actors needed, assumptions."""
    work = Work.planned(plan) if plan else Work.configured(config)
    if work is None:
        yield "steps, tokens and memory: unknown before the store is there"
        return
    if not work.exact:
        yield (
            f"without the store, from the configuration: {work.steps:,} steps, {work.tokens}; "
            "padding is known once the store is there"
        )
    backbone: BackboneConfig = config.model  # pyright: ignore[reportAttributeAccessIssue]
    shape = model_shape(backbone.name)
    if shape is None:
        yield f"memory: unknown, since {backbone.name} is not on this machine"
        return
    size, workers = DecoderSize.of(shape), config.cluster.worker_range[1]
    if isinstance(backbone, ValueModelConfig):
        size = size.first(backbone.num_layers)
    chunk = config.loss.chunk_size if isinstance(config, PolicyJobConfig) else 0
    shards = workers if config.cluster.parallelism == "fsdp2" else 1
    memory = estimate_memory(size, backbone, work.largest, chunk, shards)
    yield f"memory per worker: {memory}{_room(memory.total, config.cluster.gpus_per_worker)}"
    if scorer is not None:
        heads = config.model.num_heads if isinstance(config, PolicyJobConfig) else 0
        training = float(training_flops(size, backbone, TokenWork(1.0, heads * work.target_share)))
        yield from _scoring(scorer, backbone.name, work.largest, training, workers)
    yield (
        "assumed: dense Llama-like layers; largest micro-batch "
        f"{work.largest:,} tokens{'' if work.exact else ' (samples of half a row)'}; {work.target_share:.0%} of tokens "
        "are targets; training and scoring reach the same share of the same device's speed; 30% either way"
    )


def _scoring(scorer: ScorerUse, policy: str, largest: int, training: float, workers: int) -> Iterator[str]:
    name, dtype, layers, where = _scoring_model(scorer, policy)
    shape = model_shape(name)
    if shape is None:
        yield f"memory per {scorer.section} actor: unknown, since {name} is not on this machine"
        return
    size = DecoderSize.of(shape).first(layers)
    memory = estimate_scorer_memory(size, dtype, largest)
    yield f"memory per {scorer.section} actor: {memory}{_room(memory.total, scorer.pool.gpus_per_actor)}; {where}"
    scoring = float(forward_flops(size, TokenWork(1.0)))
    one, _ = critics_needed(training, scoring, 1)
    exact, whole = critics_needed(training, scoring, workers)
    fewest, most = scorer.pool.actor_range
    configured = f"{fewest} to {most}" if fewest < most else str(fewest)
    yield (
        f"{scorer.section} actors so that training never waits: {one:.2f} per train worker ({training / 1e9:.1f} GFLOP "
        f"per token trained, {scoring / 1e9:.1f} scored), so {whole} for {workers} (exactly {exact:.2f}; configured "
        f"{configured}); none once the scores are cached"
    )


def _scoring_model(scorer: ScorerUse, policy: str) -> tuple[str, str, int | None, str]:
    """Name, dtype and layers (None = all) of the frozen model, and where they are known from. One that is not there yet
    is taken for the production one, or for the policy's own backbone where that is smaller."""
    directory, section = scorer.directories[0], scorer.section
    if section == "critic" and (directory / "value_model.json").is_file():
        card = read_card(directory).config
        return card.name, card.dtype, card.num_layers, f"{directory} on {card.name}"
    if section == "reference" and directory.is_dir():
        return str(directory), getattr(scorer.pool, "dtype", "bfloat16"), None, str(directory)
    name = min(PRODUCTION_SCORER, policy, key=_parameters)
    return name, "bfloat16", None, f"no {section} at {directory} yet: {name} in bfloat16 assumed"


def _parameters(name: str) -> float:
    shape = model_shape(name)
    return (
        math.inf if shape is None else DecoderSize.of(shape).layers * DecoderSize.of(shape).layer_parameters
    )


def _room(total: int, gpus: float) -> str:
    if not gpus:
        return ""
    left = DEVICE_GB * gpus - total / 1e9
    return f", {left:.1f} GB left of {DEVICE_GB * gpus:g}" if left >= 0 else f", {-left:.1f} GB too much"
