"""The architecture of a model without its weights: from its files or, for the production configs' models, known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import transformers

from wmtp_ray.models.quiet import quiet_transformers
from wmtp_ray.models.resolve import EMBEDDED_MODEL, embedded_gguf

KNOWN: dict[str, dict[str, Any]] = {
    # params.json of the Meta checkpoint; its 32 layers are 28 of the trunk, head 1, and 3 further heads
    "7B_1T_4": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 29,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
    },
    # config.json of princeton-nlp/Sheared-LLaMA-2.7B
    "Sheared-LLaMA-2.7B": {
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "num_key_value_heads": 20,
        "vocab_size": 32000,
    },
}
"""Shapes by the last part of a model's name or path; embedding and unembedding are untied."""


@dataclass(frozen=True)
class DecoderSize:
    """What memory and arithmetic depend on, of a dense Llama-like decoder."""

    width: int
    ffn: int
    layers: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, shape: transformers.PretrainedConfig) -> DecoderSize:
        """Read from a configuration of transformers."""
        head_dim = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
        return cls(
            width=shape.hidden_size,
            ffn=shape.intermediate_size,
            layers=shape.num_hidden_layers,
            queries=shape.num_attention_heads * head_dim,
            keys=shape.num_key_value_heads * head_dim,
            vocabulary=shape.vocab_size,
            tied=bool(shape.tie_word_embeddings),
        )

    def first(self, layers: int | None) -> DecoderSize:
        """The same decoder cut above its first `layers` layers; None = whole."""
        return self if layers is None else replace(self, layers=layers)

    @property
    def layer_parameters(self) -> int:
        """Of one decoder layer, norms left out."""
        return 2 * self.width * self.queries + 2 * self.width * self.keys + 3 * self.width * self.ffn

    @property
    def adapter_sides(self) -> int:
        """Inputs plus outputs of a layer's seven projections: times the rank, what LoRA trains in it."""
        width, queries, keys, ffn = self.width, self.queries, self.keys, self.ffn
        return 2 * (width + queries) + 2 * (width + keys) + 3 * (width + ffn)

    @property
    def embedding_parameters(self) -> int:
        """Of embedding and unembedding."""
        return self.vocabulary * self.width * (1 if self.tied else 2)


@cache
def model_shape(name: str) -> transformers.PretrainedConfig | None:
    """The architecture of a model that is on this machine, without converting or loading it, or that is in `KNOWN`;
    None for any other."""
    path = embedded_gguf() if name == EMBEDDED_MODEL else Path(name).expanduser()
    with quiet_transformers():
        if path.is_file():
            return transformers.AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
        if (path / "config.json").is_file():
            return transformers.AutoConfig.from_pretrained(str(path), local_files_only=True)
    known = KNOWN.get(path.name)
    return transformers.LlamaConfig(tie_word_embeddings=False, **known) if known else None
