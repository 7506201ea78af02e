"""Running the decoder layers of a transformers model one by one.

The layers, norms and rotary embeddings are transformers' own; what differs is who calls them: attention is told where
the segments of packed rows lie, MTP heads branch off below the last layer, and frozen layers at the bottom need no
autograd graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.errors import ModelError
from wmtp_ray.models.attention import PACKED_ATTENTION, SegmentGroups
from wmtp_ray.models.heap import bound_kernel_caches
from wmtp_ray.models.quiet import quiet_transformers

SUPPORTED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_backbone(
    directory: Path, dtype: torch.dtype, *, unembedding: bool, num_layers: int | None = None
) -> transformers.PreTrainedModel:
    """The model in `directory`, on the CPU: `...ForCausalLM` or, without `unembedding`, the bare decoder; of its layers
    the first `num_layers`, and its last norm on top of them.

    Errors: `ModelError` for another family, unreadable files, fewer layers, and weights missing, superfluous or of
    wrong shape.
    """
    bound_kernel_caches()
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
            if config.model_type not in SUPPORTED_FAMILIES:
                families = ", ".join(SUPPORTED_FAMILIES)
                raise ModelError(
                    f"model {directory} is of the family {config.model_type!r}; supported are {families}"
                )
            all_layers = config.num_hidden_layers
            if num_layers is not None:
                _keep_layers(config, num_layers)
            auto = transformers.AutoModelForCausalLM if unembedding else transformers.AutoModel
            model, info = auto.from_pretrained(  # type: ignore[reportGeneralTypeIssues]
                directory,
                config=config,
                dtype=dtype,
                attn_implementation=PACKED_ATTENTION,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"model {directory} cannot be loaded ({error}); convert or copy it again") from error
    # A bare decoder has no use for the unembedding of the file, and a cut one for the layers above.
    unused = [f"layers.{number}." for number in range(config.num_hidden_layers, all_layers)]
    unused += [] if unembedding else ["lm_head"]
    unexpected = {
        name for name in info["unexpected_keys"] if not name.removeprefix("model.").startswith(tuple(unused))
    }
    for what, names in (("missing", info["missing_keys"]), ("unknown", unexpected)):
        if names:
            raise ModelError(
                f"model {directory}: {len(names)} weights {what}, first {min(names)!r}; copy it again"
            )
    model.eval()
    return model


def _keep_layers(config: transformers.PretrainedConfig, num_layers: int) -> None:
    """Make `config` describe the first `num_layers` of its layers."""
    if num_layers > config.num_hidden_layers:
        raise ModelError(
            f"model.num_layers {num_layers}: the model has {config.num_hidden_layers} layers; lower it or set null"
        )
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:num_layers]


@dataclass(frozen=True)
class Geometry:
    """What decoder layers read besides hidden states: positions, their rotary embeddings, where the segments lie."""

    position_ids_RT: Tensor
    rotary: tuple[Tensor, Tensor]
    groups: SegmentGroups


class LayerRunner:
    """Calls the layers of one decoder on packed rows. Registers no parameters: the model that owns it does.

    `compute_dtype` is that of the hidden states. What is trained, adapters or whole layers, keeps float32
    weights, so that AdamW's small updates are not rounded away; if `compute_dtype` is bfloat16 their layers run under
    autocast: products in bfloat16, gradients of the weights in float32.
    """

    def __init__(self, decoder: nn.Module, compute_dtype: torch.dtype, gradient_checkpointing: bool) -> None:
        self.embedding = decoder.get_submodule("embed_tokens")
        self.layers: list[nn.Module] = list(decoder.get_submodule("layers").children())
        self.norm = decoder.get_submodule("norm")
        self.rotary = decoder.get_submodule("rotary_emb")
        self.compute_dtype = compute_dtype
        self.gradient_checkpointing = gradient_checkpointing

    def geometry(self, batch: PackedBatch) -> Geometry:
        """That of `batch`, for all layers."""
        like = torch.empty(0, dtype=self.compute_dtype, device=batch.position_ids.device)
        return Geometry(
            batch.position_ids, self.rotary(like, batch.position_ids), SegmentGroups.of(batch.segment_ids)
        )

    def run_layer(self, layer: nn.Module, hidden_RTD: Tensor, geometry: Geometry) -> Tensor:
        """One decoder layer, [R, T, D] to [R, T, D]; recomputed in the backward pass if asked for."""

        def call(hidden: Tensor) -> Tensor:
            out = layer(
                hidden,
                position_ids=geometry.position_ids_RT,
                position_embeddings=geometry.rotary,
                groups=geometry.groups,
            )
            return out.to(self.compute_dtype)

        mixed = any(parameter.dtype != self.compute_dtype for parameter in layer.parameters())
        device = hidden_RTD.device.type
        with torch.autocast(device, dtype=self.compute_dtype) if mixed else nullcontext():
            if self.gradient_checkpointing and torch.is_grad_enabled():
                return checkpoint(call, hidden_RTD, use_reentrant=False)  # type: ignore[return-value]
            return call(hidden_RTD)

    def run_stack(self, input_ids_RT: Tensor, num_layers: int, geometry: Geometry) -> Tensor:
        """Embedding, then the first `num_layers` layers: hidden states [R, T, D], not normed.

        Everything below the first trainable parameter runs without autograd: with adapters on the last n
        layers only the last n layers keep activations and take part in the backward pass.
        """
        num_frozen = _num_frozen([self.embedding, *self.layers[:num_layers]])
        with torch.set_grad_enabled(torch.is_grad_enabled() and num_frozen == 0):
            hidden_RTD = self.embedding(input_ids_RT).to(self.compute_dtype)
        for number in range(num_layers):
            with torch.set_grad_enabled(torch.is_grad_enabled() and num_frozen <= number + 1):
                hidden_RTD = self.run_layer(self.layers[number], hidden_RTD, geometry)
        return hidden_RTD

    def normed(self, hidden_RTD: Tensor) -> Tensor:
        """The decoder's last norm, in the compute dtype."""
        return self.norm(hidden_RTD).to(self.compute_dtype)


def _num_frozen(modules: Sequence[nn.Module]) -> int:
    """How many modules at the bottom need no gradient, since neither they nor any below them are trained."""
    for number, module in enumerate(modules):
        if any(parameter.requires_grad for parameter in module.parameters()):
            return number
    return len(modules)
