"""The memory that a train worker and a critic actor will need, estimated from shapes before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from wmtp_ray.config.model import BackboneConfig, ValueModelConfig
from wmtp_ray.models.flops import extra_heads, heads_in_full, reached_layers, trained_part
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
    extra, reached, whole_heads = extra_heads(config), reached_layers(size, config), heads_in_full(config)
    gathered = size.layer_parameters if shards > 1 else 0
    bare = isinstance(config, ValueModelConfig)  # has no unembedding
    embedding = size.vocabulary * size.width if bare else size.embedding_parameters
    if trained_part(config) == "all":
        trained = (size.layers + extra) * size.layer_parameters // shards + embedding
        weights = gathered * BYTES["float32"]
    else:
        rank = config.lora.rank if config.lora and trained_part(config) == "lora" else 0
        adapters = (reached - whole_heads) * rank * size.adapter_sides
        trained = (adapters + whole_heads * size.layer_parameters) // shards
        frozen = (size.layers + extra - whole_heads) * size.layer_parameters // shards
        weights = (frozen + gathered + embedding) * BYTES[config.dtype]
    kept_layers = 1 if config.gradient_checkpointing else max(1, reached - extra)
    width = max(size.width, size.ffn // 2)
    per_token = (SAVED_PER_LAYER * kept_layers + reached) * width * BYTES[config.dtype]
    return MemoryEstimate(
        weights=weights,
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
