"""Writing plain Hugging Face model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from torch import Tensor

from wmtp_ray.models.quiet import quiet_transformers


def save_plain_model(
    config: transformers.PretrainedConfig,
    state: Mapping[str, Tensor],
    directory: Path,
    *,
    dtype: torch.dtype,
    auto_class: type | None = None,
) -> None:
    """Write `config` and `state` as a model of transformers (`auto_class`, by default a causal language model) to
    `directory` (safetensors, shards of 5 GB).

    The model is built without memory of its own (meta device) and given the tensors of `state`, so nothing
    is copied but what is written. `state` must have every key and no other (`RuntimeError` otherwise: a
    bug, not bad input).
    """
    config = type(config).from_dict(config.to_dict())
    with torch.device("meta"), quiet_transformers():
        model = (auto_class or transformers.AutoModelForCausalLM).from_config(config, dtype=dtype)
    converted = {name: tensor.detach().to(dtype) for name, tensor in state.items()}
    model.load_state_dict(converted, strict=True, assign=True)
    model.tie_weights()
    with quiet_transformers():
        model.save_pretrained(directory, max_shard_size="5GB")
