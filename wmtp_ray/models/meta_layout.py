"""Names and shapes of Meta's multi-token checkpoints, and what they are called in ours.

Meta counts every head among `n_layers`: layers 0 .. L−K are the trunk and the next-token head,
`extra_heads` 0 .. K−2 the others. Ours: a plain Llama of L−K+1 layers plus `mtp/` (see `mtp_directory`).
Queries and keys are stored in interleaved-RoPE order by Meta, in two halves by transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError
from torch import Tensor

from wmtp_ray.errors import ModelError

LAYER_NAMES = {
    "attention.wq.weight": "self_attn.q_proj.weight",
    "attention.wk.weight": "self_attn.k_proj.weight",
    "attention.wv.weight": "self_attn.v_proj.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
OUTER_NAMES = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


class MetaParams(BaseModel):
    """`params.json`. Width of the FFN and size of the vocabulary come from the tensors themselves."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    dim: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    n_kv_heads: PositiveInt | None = None
    norm_eps: PositiveFloat = 1e-5
    rope_theta: PositiveFloat = 10000.0
    n_future_tokens: PositiveInt = 1
    max_seq_len: PositiveInt = 4096

    @property
    def num_kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def num_plain_layers(self) -> int:
        """Layers of the plain model: trunk and next-token head."""
        return self.n_layers - self.n_future_tokens + 1


def read_params(path: Path) -> MetaParams:
    """`params.json`; `ModelError` naming the field that is missing, wrong or not supported."""
    try:
        content = json.loads(path.read_text())
        params = MetaParams.model_validate(content)
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); copy the checkpoint again") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {field or 'content'}: {first['msg']}; correct it") from error
    if content.get("use_scaled_rope"):
        raise ModelError(f"{path}: use_scaled_rope is not supported; use the model's Hugging Face version")
    if params.num_plain_layers < 1 or params.dim % params.n_heads or params.n_heads % params.num_kv_heads:
        raise ModelError(f"{path}: layers, heads or dim contradict each other: {params}; correct it")
    return params


@dataclass(frozen=True)
class Slot:
    """One tensor in both layouts. `part` is "plain" (with `layer` or None for the outer ones) or "mtp"."""

    meta_name: str
    hf_name: str
    part: str
    layer: int | None
    shape: tuple[int, ...]
    rotary_heads: int | None
    """Number of heads whose rows change order between the layouts, None for all but wq and wk."""


def slots(params: MetaParams, ffn: int, vocabulary: int) -> Iterator[Slot]:
    """Every tensor that a checkpoint with these parameters has, in file order."""
    kv_width = params.num_kv_heads * params.head_dim
    shapes = {
        "attention.wq.weight": (params.dim, params.dim),
        "attention.wk.weight": (kv_width, params.dim),
        "attention.wv.weight": (kv_width, params.dim),
        "attention.wo.weight": (params.dim, params.dim),
        "feed_forward.w1.weight": (ffn, params.dim),
        "feed_forward.w2.weight": (params.dim, ffn),
        "feed_forward.w3.weight": (ffn, params.dim),
        "attention_norm.weight": (params.dim,),
        "ffn_norm.weight": (params.dim,),
    }
    rotary = {"attention.wq.weight": params.n_heads, "attention.wk.weight": params.num_kv_heads}
    for meta_name, hf_name in OUTER_NAMES.items():
        shape = (params.dim,) if meta_name == "norm.weight" else (vocabulary, params.dim)
        yield Slot(meta_name, hf_name, "plain", None, shape, None)
    for number in range(params.num_plain_layers):
        for meta_name, hf_name in LAYER_NAMES.items():
            yield Slot(
                f"layers.{number}.{meta_name}",
                f"model.layers.{number}.{hf_name}",
                "plain",
                number,
                shapes[meta_name],
                rotary.get(meta_name),
            )
    for number in range(params.n_future_tokens - 1):
        for meta_name, hf_name in LAYER_NAMES.items():
            yield Slot(
                f"extra_heads.{number}.{meta_name}",
                f"{number}.{hf_name}",
                "mtp",
                number,
                shapes[meta_name],
                rotary.get(meta_name),
            )


def halves_from_interleaved(weight: Tensor, num_heads: int) -> Tensor:
    """Rows of wq or wk from Meta's order to transformers', per head of dimension d:

    [0, 1, 2, 3, 4, 5] (pairs rotate together)  →  [0, 2, 4, 1, 3, 5] (i rotates with i + d/2)
    """
    rows, columns = weight.shape
    return weight.view(num_heads, rows // num_heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def interleaved_from_halves(weight: Tensor, num_heads: int) -> Tensor:
    """The inverse of `halves_from_interleaved`."""
    rows, columns = weight.shape
    return weight.view(num_heads, 2, rows // num_heads // 2, columns).transpose(1, 2).reshape(rows, columns)
