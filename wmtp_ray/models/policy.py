"""The multi-token-prediction policy on any decoder of transformers.

Trunk = all decoder layers but the last. Head 1 = the last layer, heads 2..K = further layers, at first
copies of it. Every head reads the trunk's output, and norm and unembedding are shared (Gloeckle et al.,
arXiv 2404.19737). So with K = 1 this is the original model, and head 1 always gives the original's
next-token logits.

Shapes: R packed rows, T tokens, D model width, V vocabulary, K heads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from wmtp_ray.config.model import DTypeName, LoRAConfig, PolicyConfig
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.errors import ModelError
from wmtp_ray.models.backbone import DTYPES, Geometry, LayerRunner, load_backbone
from wmtp_ray.models.export import save_plain_model
from wmtp_ray.models.lora import (
    adapted_layers,
    initialise_lora,
    inject_lora,
    load_named_parameters,
    plain_state_dict,
    save_peft_adapter,
)
from wmtp_ray.models.mtp_directory import read_extra_heads, stored_num_heads, write_extra_heads
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import copy_tokenizer


class MTPPolicy(nn.Module):
    """K heads on one trunk. A step with sequential heads, each freeing its own activations:

        trunk_RTD, geometry = policy.trunk(batch)
        leaf_RTD = trunk_RTD.detach().requires_grad_(trunk_RTD.requires_grad)
        unembedding_VD = policy.unembedding
        for k in range(1, policy.num_heads + 1):
            loss(policy.head(k, leaf_RTD, geometry), unembedding_VD, ...).backward()
        if leaf_RTD.grad is not None:
            trunk_RTD.backward(leaf_RTD.grad)

    For `trunk_gradient: detached`, heads 2..K get `leaf_RTD.detach()`. The trunk's output needs no gradient
    where nothing below it is trained (adapters on the last layer only, head warm-up).
    """

    def __init__(
        self,
        source: Path,
        name: str,
        num_heads: int,
        *,
        dtype: DTypeName,
        lora: LoRAConfig | None,
        head_training: Literal["lora", "full"],
        gradient_checkpointing: bool,
        seed: int,
    ) -> None:
        super().__init__()
        if lora is None and head_training == "lora":
            raise ModelError(
                "head_training 'lora' without lora: set head_training: full, or give the adapters' settings"
            )
        self.name = name
        self.source = source
        self.num_heads = num_heads
        self.lora = lora
        compute_dtype = DTYPES[dtype]
        # Weights that are trained themselves stay float32; see LayerRunner.
        base_dtype = torch.float32 if lora is None else compute_dtype
        self.backbone = load_backbone(source, base_dtype, unembedding=True)
        decoder = self.backbone.get_submodule("model")
        self.runner = LayerRunner(decoder, compute_dtype, gradient_checkpointing)
        head_dtype = torch.float32 if head_training == "full" else base_dtype
        extra = [copy.deepcopy(self.runner.layers[-1]).to(head_dtype) for _ in range(num_heads - 1)]
        self.extra_heads = nn.ModuleList(extra)
        read_extra_heads(source, self.extra_heads)
        if lora is not None:
            self.backbone.requires_grad_(False)
            adapted = adapted_layers(self.runner.layers, lora)
            inject_lora(adapted + (list(self.extra_heads) if head_training == "lora" else []), lora)
            initialise_lora(self, seed)
        self.eval()
        self._trainable = tuple(name for name, p in self.named_parameters() if p.requires_grad)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        num_heads: int | None = None,
        *,
        path: Path | None = None,
        dtype: DTypeName = "float32",
        lora: LoRAConfig | None = None,
        head_training: Literal["lora", "full"] | None = None,
        gradient_checkpointing: bool = False,
        seed: int = 0,
        cache_dir: Path | None = None,
    ) -> MTPPolicy:
        """The policy on model `name`, found at `path` (by default by `resolve_model`), on the CPU, in eval mode.

        `num_heads` None = as many as the directory holds: K for one written by `save_pretrained` or
        converted from a Meta checkpoint, 1 for any other model. Heads that it does not hold start as copies
        of the last layer; asking for fewer drops the furthest. `lora` None = full finetuning.
        `head_training` None = `lora` if there is `lora`, else `full`. `seed` decides the adapters' start.

        Errors: `ModelError` for unknown or damaged models, settings that contradict each other, and more
        heads than a directory with extra heads holds.
        """
        source = path or resolve_model(name, cache_dir)
        stored = stored_num_heads(source)
        if num_heads is not None and num_heads < 1:
            raise ModelError(f"num_heads {num_heads}: at least 1 (plain next-token training)")
        if num_heads is not None and stored is not None and num_heads > stored:
            raise ModelError(
                f"num_heads {num_heads}: model {name} holds {stored} heads; ask for at most as many"
            )
        return cls(
            source,
            str(name),
            num_heads or stored or 1,
            dtype=dtype,
            lora=lora,
            head_training=head_training or ("full" if lora is None else "lora"),
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
        )

    @classmethod
    def from_config(
        cls, config: PolicyConfig, path: Path | None = None, *, seed: int, cache_dir: Path | None = None
    ) -> MTPPolicy:
        """The policy that a job's configuration describes; arguments as of `from_pretrained`."""
        return cls.from_pretrained(
            config.name,
            config.num_heads,
            path=path,
            dtype=config.dtype,
            lora=config.lora,
            head_training=config.head_training,
            gradient_checkpointing=config.gradient_checkpointing,
            seed=seed,
            cache_dir=cache_dir,
        )

    def trunk(self, batch: PackedBatch) -> tuple[Tensor, Geometry]:
        """Hidden states [R, T, D] below the heads, in the compute dtype, finite garbage on padding; and what the heads
        read besides them."""
        geometry = self.runner.geometry(batch)
        return self.runner.run_stack(batch.input_ids, len(self.runner.layers) - 1, geometry), geometry

    def head(self, k: int, hidden_RTD: Tensor, geometry: Geometry) -> Tensor:
        """Head k (from 1) on the trunk's output: normed [R, T, D]; its logits at t predict token t+k."""
        if not 1 <= k <= self.num_heads:
            raise ValueError(f"head {k}: this policy has heads 1 to {self.num_heads}")
        layer = self.runner.layers[-1] if k == 1 else self.extra_heads[k - 2]
        return self.runner.normed(self.runner.run_layer(layer, hidden_RTD, geometry))

    @property
    def unembedding(self) -> Tensor:
        """The shared unembedding [V, D], compute dtype; requires a gradient only under full finetuning, and in bfloat16
        is then a copy, made at each access."""
        return self.backbone.get_parameter("lm_head.weight").to(self.runner.compute_dtype)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Logits [R, T, K, V] of all heads, materialised: for tests and small inputs, not for training."""
        trunk_RTD, geometry = self.trunk(batch)
        unembedding_DV = self.unembedding.T
        heads = [self.head(k, trunk_RTD, geometry) @ unembedding_DV for k in range(1, self.num_heads + 1)]
        return torch.stack(heads, dim=2)

    def set_trunk_trainable(self, trainable: bool) -> None:
        """Freeze the trunk (embedding, all layers but the last) while new heads warm up, or release it."""
        for name, parameter in self.trainable_parameters().items():
            if self._in_trunk(name):
                parameter.requires_grad_(trainable)

    def _in_trunk(self, name: str) -> bool:
        last_layer = f"backbone.model.layers.{len(self.runner.layers) - 1}."
        return not name.startswith(("extra_heads.", "backbone.model.norm.", "backbone.lm_head.", last_layer))

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name; also those that are frozen for a while."""
        parameters = dict(self.named_parameters())
        return {name: parameters[name] for name in self._trainable}

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """The trained tensors (not copies), by stable names: what a checkpoint keeps."""
        return {name: parameter.detach() for name, parameter in self.trainable_parameters().items()}

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load what `trainable_state_dict` gave; `ModelError` names a missing, extra or misshapen tensor."""
        load_named_parameters(self.trainable_parameters(), state, "policy checkpoint")

    def export_hf(self, directory: Path) -> None:
        """Write head 1 as a plain `...ForCausalLM` that transformers and vLLM load, adapters merged."""
        save_plain_model(
            self.backbone.config, plain_state_dict(self.backbone), directory, dtype=self.runner.compute_dtype
        )
        copy_tokenizer(self.source, directory)

    def save_pretrained(self, directory: Path) -> None:
        """`export_hf`, and the extra heads in `mtp/`: `from_pretrained(directory)` gives all heads' logits.

        Adapters are merged, so the result can be trained further in any way. To resume a run, use
        `trainable_state_dict`.
        """
        self.export_hf(directory)
        write_extra_heads(directory, [plain_state_dict(head) for head in self.extra_heads])

    def save_adapter(self, directory: Path) -> None:
        """Write head 1's adapters in PEFT's own format: the plain base model plus this equals `export_hf`.

        `ModelError` under full finetuning, which has no adapter.
        """
        if self.lora is None:
            raise ModelError(f"policy {self.name} was finetuned in full and has no adapter; use export_hf")
        save_peft_adapter(self.backbone, self.lora, str(self.source), directory)
