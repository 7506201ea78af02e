"""Configuration of models: the backbone, its LoRA adapters, the MTP heads, the value head."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from wmtp_ray.config.base import Section

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}
"""What Linux calls the instructions, on x86 and on ARM."""


@functools.cache
def computes_in_bfloat16() -> bool:
    """Whether this machine has a GPU or a CPU with instructions for it; emulated, it is slower than float32."""
    import torch  # takes seconds, and few configurations ask

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not BFLOAT16_FLAGS.isdisjoint(Path("/proc/cpuinfo").read_text().split())


def _what_this_machine_is_fast_in(dtype: str) -> str:
    if dtype != "auto":
        return dtype
    return "bfloat16" if computes_in_bfloat16() else "float32"


AutoDType = AfterValidator(_what_this_machine_is_fast_in)
"""Lets a dtype be `auto`: bfloat16 where the machine that starts the job has instructions for it, else float32. A run
records which it was."""
DTypeName = Annotated[Literal["float32", "bfloat16", "auto"], AutoDType]

ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoRAConfig(Section):
    """Low-rank adapters (float32), never on the unembedding."""

    rank: PositiveInt = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = ALL_PROJECTIONS
    last_layers: PositiveInt | None = None
    """Adapters on the last n decoder layers only (of a policy: its MTP heads always have them); null = on all."""


class BackboneConfig(Section):
    """A decoder of transformers (Llama, Qwen or Mistral family)."""

    name: str
    """`smollm2-135m` (embedded), a hub id, a local directory, or a GGUF file."""
    dtype: DTypeName = "float32"
    """`float32`, `bfloat16`, or `auto`: what the machine on which the job starts is faster in."""
    lora: LoRAConfig | None = LoRAConfig()
    """Of a policy, null = full finetuning; of a critic, what `train: lora` trains, and otherwise not read."""
    gradient_checkpointing: bool = False


class PolicyConfig(BackboneConfig):
    """The MTP policy."""

    num_heads: PositiveInt = 4
    """K: head k predicts the token k positions ahead."""
    head_training: Literal["lora", "full"] = "lora"
    """How the extra heads 2..K are trained."""
    head_warmup_steps: NonNegativeInt = 0
    """Optimizer steps at the start over which the trunk stays frozen, while copied heads learn to look ahead."""
    trunk_gradient: Literal["joint", "detached"] = "joint"
    """Whether heads 2..K send gradients into the trunk."""


class ValueModelConfig(BackboneConfig):
    """The critic."""

    num_layers: PositiveInt | None = None
    """Values are read after so many decoder layers, and those above are not even loaded; null = after all."""
    head: Literal["linear", "sigmoid", "mlp"] = "mlp"
    initial_bias: float = 0.0
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train: Literal["lora", "head", "all"] = "lora"
    """Besides the value head: adapters, nothing, or the whole backbone."""

    @model_validator(mode="after")
    def _adapters_are_described(self) -> Self:
        if self.train == "lora" and self.lora is None:
            raise ValueError(
                "train = lora without lora: give the adapters' settings, say lora = {rank: 32, alpha: 64}, or train = "
                "head or all"
            )
        return self
