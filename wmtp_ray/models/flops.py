"""Floating-point operations of training and of scoring, counted from a model's shape and a plan's tokens.

A multiply-add is two operations. Counted are the linear maps of the decoder layers, the adapters, attention's own
products over the positions that a token may look at (causal, within its sample), and the unembedding of the positions
that have a target. Norms, activations, embeddings, the optimizer and padding are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wmtp_ray.config.model import BackboneConfig, PolicyConfig, ValueModelConfig
from wmtp_ray.data.plan import Plan
from wmtp_ray.models.shapes import DecoderSize

Count = float | np.ndarray


@dataclass(frozen=True)
class TokenWork:
    """What the arithmetic depends on beside the model; numbers, or [steps] arrays."""

    tokens: Count
    targets: Count = 0.0
    """Positions that reach the unembedding, added up over heads."""
    attended: Count = 0.0
    """Pairs of a position and one that it may look at: n(n+1)/2 in a sample of n tokens."""

    @classmethod
    def by_step(cls, plan: Plan, heads: int) -> TokenWork:
        """Of each optimizer step of a plan, [steps], for a policy of `heads` heads; 0 for a model without logits."""
        columns, steps = plan.columns, plan.columns["step"]
        tokens = columns["tokens"].astype(np.float64)
        prompts = tokens - columns["targets"]
        targets = sum((tokens - np.maximum(prompts, k)).clip(min=0) for k in range(1, heads + 1))
        parts = (tokens, np.zeros_like(tokens) + targets, tokens * (tokens + 1) / 2)
        return cls(*(np.bincount(steps, part, plan.num_steps) for part in parts))

    @classmethod
    def of(cls, plan: Plan, heads: int) -> TokenWork:
        """Of a whole plan."""
        work = cls.by_step(plan, heads)
        return cls(float(np.sum(work.tokens)), float(np.sum(work.targets)), float(np.sum(work.attended)))

    @classmethod
    def once(cls, plan: Plan, heads: int) -> TokenWork:
        """Of the first time that each row of a plan occurs: later epochs find its scores in the cache."""
        _, first = np.unique(plan.columns["row"], return_index=True)
        columns = {name: column[np.sort(first)] for name, column in plan.columns.items()}
        return cls.of(Plan(columns, plan.facts), heads)


def training_flops(size: DecoderSize, config: BackboneConfig, work: TokenWork) -> Count:
    """Forward and backward of `work`.

    2 operations per parameter and token forward; 2 more for the gradient of the input where the backward pass reaches;
    2 more for that of a weight that is trained itself; 2 more where checkpointing repeats the forward pass.
    """
    trained = trained_part(config)
    layers, reached = size.layers + extra_heads(config), reached_layers(size, config)
    again = 2 if config.gradient_checkpointing else 0
    backward = 2 + (2 if trained == "all" else 0) + again
    whole_heads = heads_in_full(config)
    linear = size.layer_parameters * (2 * layers + backward * reached + 2 * whole_heads)
    if trained == "lora" and config.lora is not None:
        linear += (reached - whole_heads) * config.lora.rank * size.adapter_sides * (6 + again)
    attention = size.queries * (4 * layers + (8 + 2 * again) * reached)
    logits = size.vocabulary * size.width * (6 if trained == "all" else 4)
    return work.tokens * linear + work.attended * attention + work.targets * logits


def forward_flops(size: DecoderSize, work: TokenWork) -> Count:
    """One forward pass over `work`, with logits where it has targets: scoring with a frozen model."""
    linear = 2.0 * size.layers * size.layer_parameters
    attention = 4.0 * size.layers * size.queries
    return (
        work.tokens * linear + work.attended * attention + work.targets * (2.0 * size.vocabulary * size.width)
    )


def critics_needed(training: float, scoring: float, workers: int) -> tuple[float, int]:
    """Critic actors that `workers` train workers keep busy, exactly and rounded up, where both reach the same share of
    the same device's speed: below it, training waits for scores that no cache has."""
    exact = workers * scoring / training
    return exact, max(1, math.ceil(exact))


def extra_heads(config: BackboneConfig) -> int:
    """Decoder layers that a policy has beside those of its backbone."""
    return config.num_heads - 1 if isinstance(config, PolicyConfig) else 0


def reached_layers(size: DecoderSize, config: BackboneConfig) -> int:
    """Layers, heads included, that the backward pass goes through."""
    if trained_part(config) == "head":
        return 0
    last = config.lora.last_layers if config.lora and trained_part(config) == "lora" else None
    return min(size.layers, last or size.layers) + extra_heads(config)


def heads_in_full(config: BackboneConfig) -> int:
    """Extra heads whose own weights are trained beside adapters elsewhere."""
    whole = isinstance(config, PolicyConfig) and config.head_training == "full"
    return extra_heads(config) if whole and trained_part(config) == "lora" else 0


def trained_part(config: BackboneConfig) -> Literal["lora", "head", "all"]:
    """Adapters, the value head alone, or all weights."""
    if isinstance(config, ValueModelConfig):
        return config.train
    return "all" if config.lora is None else "lora"
