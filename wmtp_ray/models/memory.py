"""What a train worker and a critic actor will need, estimated from shapes before anything is loaded: memory, and the
arithmetic that decides how many critics keep up with training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wmtp_ray.config.model import BackboneConfig, PolicyConfig
from wmtp_ray.models.shapes import DecoderSize

BYTES = {"float32": 4, "bfloat16": 2}
OPTIMIZED_BYTES = 16
"""Of a trained float32 parameter: itself, its gradient, and AdamW's two moments."""
SAVED_PER_LAYER = 16
"""Hidden-sized activations that one decoder layer keeps for its backward (norms, q, k, v, attention, gated MLP)."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process, beside Python and PyTorch themselves (about 1 GB)."""

    weights: int
    """The backbone and copied heads, in their dtype."""
    trained: int
    """Trained parameters with gradients and optimizer state, float32."""
    activations: int
    """Of the largest micro-batch, where adapters reach; one layer's worth under gradient checkpointing."""
    logits: int
    """One chunk of logits and its gradient."""

    @property
    def total(self) -> int:
        return self.weights + self.trained + self.activations + self.logits

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "trained": self.trained,
            "activations": self.activations,
            "logits": self.logits,
        }
        listed = ", ".join(f"{name} {amount / 1e9:.2f}" for name, amount in parts.items() if amount)
        return f"about {self.total / 1e9:.1f} GB ({listed})"


def estimate_memory(
    size: DecoderSize, config: BackboneConfig, micro_batch_tokens: int, chunk_size: int, shards: int = 1
) -> MemoryEstimate:
    """Memory of one worker that trains on micro-batches of at most `micro_batch_tokens` tokens, padding included.

    `shards`: over how many workers decoder layers are sharded; one whole layer is then gathered at a time. Counts dense
    Llama-like layers; adapters are counted on all seven projections. An estimate: expect 30% either way.
    """
    extra_heads = _extra_heads(config)
    reached = _reached(size, config)
    per_value = BYTES[config.dtype] if config.lora is not None else BYTES["float32"]
    layers = (size.layers + extra_heads) * size.layer_parameters
    gathered = size.layer_parameters if shards > 1 else 0
    trained = layers // shards + size.embedding_parameters
    if config.lora is not None:
        trained = reached * config.lora.rank * size.adapter_sides // shards
    kept_layers = 1 if config.gradient_checkpointing else max(1, reached - extra_heads)
    width = max(size.width, size.ffn // 2)
    per_token = (SAVED_PER_LAYER * kept_layers + reached) * width * BYTES[config.dtype]
    weights = layers // shards + gathered + size.embedding_parameters
    return MemoryEstimate(
        weights=weights * per_value if config.lora is not None else gathered * per_value,
        trained=trained * OPTIMIZED_BYTES,
        activations=micro_batch_tokens * per_token,
        logits=2 * chunk_size * size.vocabulary * 4,
    )


def estimate_scorer_memory(size: DecoderSize, dtype: str, micro_batch_tokens: int) -> MemoryEstimate:
    """Memory of one frozen critic: its decoder without unembedding, and one layer's activations at a time."""
    parameters = size.layers * size.layer_parameters + size.vocabulary * size.width
    width = max(size.width, size.ffn // 2)
    return MemoryEstimate(
        weights=parameters * BYTES[dtype],
        trained=0,
        activations=micro_batch_tokens * SAVED_PER_LAYER * width * BYTES[dtype],
        logits=0,
    )


def training_flops(size: DecoderSize, config: BackboneConfig, target_share: float) -> float:
    """Floating-point operations per trained token, attention's own products left out: 2 per parameter forward, 2 more
    for the gradient of the input where the backward pass reaches, 2 more for that of a weight that is trained itself,
    and 2 more where checkpointing repeats the forward pass. `target_share`: tokens that are targets, which alone pay
    the unembedding, once per head.
    """
    extra_heads = _extra_heads(config)
    layers, reached = size.layers + extra_heads, _reached(size, config)
    backward = 2 + (2 if config.lora is None else 0) + (2 if config.gradient_checkpointing else 0)
    in_layers = size.layer_parameters * (2 * layers + backward * reached)
    heads = 1 + extra_heads if isinstance(config, PolicyConfig) else 0
    logits = heads * target_share * size.vocabulary * size.width * (4 if config.lora is not None else 6)
    return in_layers + logits


def scoring_flops(size: DecoderSize) -> float:
    """Floating-point operations of a critic's forward pass per token."""
    return 2.0 * size.layers * size.layer_parameters


def critics_needed(training: float, scoring: float, workers: int) -> tuple[float, int]:
    """Critic actors that `workers` train workers keep busy, exactly and rounded up, where both reach the same share of
    the same device's speed: below it, training waits for scores that no cache has."""
    exact = workers * scoring / training
    return exact, max(1, math.ceil(exact))


def _extra_heads(config: BackboneConfig) -> int:
    return config.num_heads - 1 if isinstance(config, PolicyConfig) else 0


def _reached(size: DecoderSize, config: BackboneConfig) -> int:
    """Layers, heads included, that the backward pass goes through."""
    last = (config.lora.last_layers if config.lora else None) or size.layers
    return min(size.layers, last) + _extra_heads(config)
