"""How much memory a train worker will take, estimated from a model's configuration before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from wmtp_ray.config.model import BackboneConfig, PolicyConfig
from wmtp_ray.models.quiet import quiet_transformers
from wmtp_ray.models.resolve import EMBEDDED_MODEL, embedded_gguf

BYTES = {"float32": 4, "bfloat16": 2}
OPTIMIZED_BYTES = 16
"""Of a trained float32 parameter: itself, its gradient, and AdamW's two moments."""
SAVED_PER_LAYER = 16
"""Hidden-sized activations that one decoder layer keeps for its backward (norms, q, k, v, attention, gated MLP)."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one train worker, beside Python and PyTorch themselves (about 1 GB)."""

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
        listed = ", ".join(f"{name} {amount / 1e9:.2f}" for name, amount in parts.items())
        return f"about {self.total / 1e9:.1f} GB per worker ({listed})"


def model_shape(name: str) -> PretrainedConfig | None:
    """The architecture of a model that is on this machine, without converting or loading it; None for any other."""
    path = embedded_gguf() if name == EMBEDDED_MODEL else Path(name).expanduser()
    with quiet_transformers():
        if path.is_file():
            return AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
        if (path / "config.json").is_file():
            return AutoConfig.from_pretrained(str(path), local_files_only=True)
    return None


def estimate_memory(
    shape: PretrainedConfig, config: BackboneConfig, micro_batch_tokens: int, chunk_size: int
) -> MemoryEstimate:
    """Memory of one worker that trains on micro-batches of at most `micro_batch_tokens` tokens, padding included.

    Counts dense Llama-like layers; adapters are counted on all seven projections. An estimate: expect 30% either way.
    """
    width, ffn, layers = shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers
    head_dim = getattr(shape, "head_dim", None) or width // shape.num_attention_heads
    queries, keys = shape.num_attention_heads * head_dim, shape.num_key_value_heads * head_dim
    layer = 2 * width * queries + 2 * width * keys + 3 * width * ffn
    extra_heads = config.num_heads - 1 if isinstance(config, PolicyConfig) else 0
    vocabulary = shape.vocab_size * width * (1 if shape.tie_word_embeddings else 2)
    parameters = vocabulary + (layers + extra_heads) * layer
    reached = layers + extra_heads
    trained = parameters
    if config.lora is not None:
        reached = min(layers, config.lora.last_layers or layers) + extra_heads
        sides = 2 * (width + queries) + 2 * (width + keys) + 3 * (width + ffn)
        trained = reached * config.lora.rank * sides
    kept_layers = 1 if config.gradient_checkpointing else max(1, reached - extra_heads)
    per_token = (SAVED_PER_LAYER * kept_layers + reached) * max(width, ffn // 2) * BYTES[config.dtype]
    return MemoryEstimate(
        weights=parameters * BYTES[config.dtype],
        trained=trained * OPTIMIZED_BYTES,
        activations=micro_batch_tokens * per_token,
        logits=2 * chunk_size * shape.vocab_size * 4,
    )
