"""Running the decoder layers of a transformers model one by one.

The layers, norms and rotary embeddings are transformers' own; what differs is who calls them: packed rows need a
mask per segment, MTP heads branch off below the last layer, and frozen layers at the bottom need no autograd graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.errors import ModelError
from wmtp_ray.models.attention import attention_mask_from_segments, is_plain_causal
from wmtp_ray.models.quiet import quiet_transformers

SUPPORTED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DTypeName = Literal["float32", "bfloat16"]


def load_backbone(directory: Path, dtype: torch.dtype, *, unembedding: bool) -> PreTrainedModel:
    """The model in `directory` on the CPU, as `...ForCausalLM` or, without `unembedding`, as the bare decoder.

    Errors: `ModelError` for another family, unreadable files, and weights missing, superfluous or of wrong shape.
    """
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(directory, local_files_only=True)
            if config.model_type not in SUPPORTED_FAMILIES:
                families = ", ".join(SUPPORTED_FAMILIES)
                raise ModelError(f"model {directory} is of the family {config.model_type!r}; supported are {families}")
            auto = AutoModelForCausalLM if unembedding else AutoModel
            model, info = auto.from_pretrained(
                directory, dtype=dtype, attn_implementation="sdpa", local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"model {directory} cannot be loaded ({error}); convert or copy it again") from error
    # A bare decoder has no use for the unembedding of the file.
    unexpected = {name for name in info["unexpected_keys"] if unembedding or not name.startswith("lm_head")}
    for what, names in (("missing", info["missing_keys"]), ("unknown", unexpected)):
        if names:
            raise ModelError(f"model {directory}: {len(names)} weights {what}, first {min(names)!r}; copy it again")
    model.eval()
    return model


def sliding_window(config: PretrainedConfig, layer: int) -> int | None:
    """The attention window of decoder layer number `layer`, None for full attention."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[layer] != "sliding_attention":
        return None
    return getattr(config, "sliding_window", None)


@dataclass(frozen=True)
class Geometry:
    """What decoder layers read besides hidden states: positions, their rotary embeddings, one mask per window."""

    position_ids_RT: Tensor
    rotary: tuple[Tensor, Tensor]
    masks: dict[int | None, Tensor | None]


class LayerRunner:
    """Calls decoder layers of one model on packed rows. Holds no weights.

    `compute_dtype` is that of the hidden states. Layers that are trained whole keep float32 weights, so that AdamW's
    small updates are not rounded away; if `compute_dtype` is bfloat16 they run under autocast.
    """

    def __init__(self, decoder: PreTrainedModel, compute_dtype: torch.dtype, gradient_checkpointing: bool) -> None:
        self.config = decoder.config
        self.rotary_emb: nn.Module = decoder.rotary_emb  # type: ignore[assignment]
        self.compute_dtype = compute_dtype
        self.gradient_checkpointing = gradient_checkpointing

    def geometry(self, batch: PackedBatch, windows: set[int | None]) -> Geometry:
        """Masks and rotary embeddings of `batch` for layers with these attention windows."""
        segments_RT = batch.segment_ids
        like = torch.empty(0, dtype=self.compute_dtype, device=segments_RT.device)
        masks = {
            window: None
            if is_plain_causal(segments_RT, window)
            else attention_mask_from_segments(segments_RT, self.compute_dtype, window)
            for window in windows
        }
        return Geometry(batch.position_ids, self.rotary_emb(like, batch.position_ids), masks)

    def run(self, layer: nn.Module, window: int | None, hidden_RTD: Tensor, geometry: Geometry) -> Tensor:
        """One decoder layer, [R, T, D] to [R, T, D]; recomputed in the backward pass if checkpointing is on."""

        def call(hidden: Tensor) -> Tensor:
            out = layer(
                hidden,
                attention_mask=geometry.masks[window],
                position_ids=geometry.position_ids_RT,
                position_embeddings=geometry.rotary,
            )
            return out.to(self.compute_dtype)

        norm_weight: Tensor = layer.input_layernorm.weight  # type: ignore[assignment]
        mixed = norm_weight.dtype != self.compute_dtype
        with torch.autocast(hidden_RTD.device.type, dtype=self.compute_dtype, enabled=mixed):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                return checkpoint(call, hidden_RTD, use_reentrant=False)  # type: ignore[return-value]
            return call(hidden_RTD)

    def run_stack(self, embedding: nn.Module, layers: Sequence[nn.Module], batch: PackedBatch) -> Tensor:
        """Embedding, then the layers in order: hidden states [R, T, D].

        Everything below the first trainable parameter runs without autograd: with adapters on the last n layers only
        the last n layers keep activations and take part in the backward pass.
        """
        windows = [sliding_window(self.config, number) for number in range(len(layers))]
        geometry = self.geometry(batch, set(windows))
        num_frozen = _num_frozen(embedding, layers)
        with torch.set_grad_enabled(torch.is_grad_enabled() and num_frozen < 0):
            hidden_RTD = embedding(batch.input_ids).to(self.compute_dtype)
        for number, layer in enumerate(layers):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= num_frozen):
                hidden_RTD = self.run(layer, windows[number], hidden_RTD, geometry)
        return hidden_RTD


def _num_frozen(embedding: nn.Module, layers: Sequence[nn.Module]) -> int:
    """How many layers at the bottom need no gradient: −1 if not even the embedding is frozen."""
    for number, module in enumerate([embedding, *layers], start=-1):
        if any(parameter.requires_grad for parameter in module.parameters()):
            return number
    return len(layers)
