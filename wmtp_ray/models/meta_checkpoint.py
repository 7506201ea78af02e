"""Meta's multi-token checkpoints (`consolidated.pth`) to our directories and back, layer by layer.

    convert_meta_checkpoint(Path("7B_1T_4"), Path("converted"))     # then MTPPolicy.from_pretrained("converted")
    write_meta_checkpoint(Path("converted"), Path("meta"))          # what policy.save_pretrained wrote works too

`resolve_model("7B_1T_4")` does the first by itself and keeps the result. Sources are memory-mapped; only
the rows of wq and wk are copied, since their order changes.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wmtp_ray.errors import ModelError, StorageError
from wmtp_ray.models.fingerprint import state_fingerprint
from wmtp_ray.models.meta_layout import (
    MetaParams,
    Slot,
    halves_from_interleaved,
    interleaved_from_halves,
    read_params,
    slots,
)
from wmtp_ray.models.mtp_directory import FOLDER, stored_num_heads
from wmtp_ray.models.tokenizer import copy_tokenizer, load_tokenizer

CHECKPOINT = "consolidated.pth"
REMEDY = "check that params.json belongs to it, or copy the checkpoint again"


def meta_fingerprint(directory: Path) -> str:
    """SHA-256 (hex) of the tensors of a Meta checkpoint: about a second per GB."""
    return state_fingerprint(_open_checkpoint(directory / CHECKPOINT))


def convert_meta_checkpoint(source: Path, directory: Path) -> None:
    """Write a Meta checkpoint as a plain Llama (a shard per layer) with its extra heads in `mtp/`.

    Every key is accounted for. Memory: the largest layer, beside mapped pages of the source.

    Errors: `ModelError` naming the first missing, unknown or wrong-shaped key, or the file that cannot be
    read.
    """
    params = read_params(source / "params.json")
    path = source / CHECKPOINT
    state = _open_checkpoint(path)
    for name in ("tok_embeddings.weight", "layers.0.feed_forward.w1.weight"):
        if name not in state:
            raise ModelError(f"{path}: {name!r} is missing; {REMEDY}")
    vocabulary, ffn = (
        state["tok_embeddings.weight"].shape[0],
        state["layers.0.feed_forward.w1.weight"].shape[0],
    )
    layout = list(slots(params, ffn, vocabulary))
    _account_for(state, layout, path)
    directory.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[str, int | None], list[Slot]] = {}
    for slot in layout:
        key = (slot.part, slot.layer) if slot.part == "plain" else ("mtp", None)
        groups.setdefault(key, []).append(slot)
    num_shards = sum(part == "plain" for part, _ in groups)
    weight_map: dict[str, str] = {}
    for number, ((part, _), members) in enumerate(groups.items(), start=1):
        tensors = {slot.hf_name: _to_hf(state[slot.meta_name], slot) for slot in members}
        if part == "plain":
            file_name = f"model-{number:05d}-of-{num_shards:05d}.safetensors"
            weight_map |= dict.fromkeys(tensors, file_name)
            save_file(tensors, directory / file_name, metadata={"format": "pt"})
        else:
            (directory / FOLDER).mkdir(exist_ok=True)
            save_file(tensors, directory / FOLDER / "heads.safetensors", metadata={"format": "pt"})
            (directory / FOLDER / "mtp.json").write_text(json.dumps({"num_heads": params.n_future_tokens}))
    size = sum(state[slot.meta_name].nbytes for slot in layout if slot.part == "plain")
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    _llama_config(params, ffn, vocabulary, state["tok_embeddings.weight"].dtype).save_pretrained(directory)
    _convert_tokenizer(source, directory)


def write_meta_checkpoint(source: Path, directory: Path) -> None:
    """Write our directory (plain Llama, or with extra heads) as Meta's `consolidated.pth` + `params.json`.

    Tied embeddings are written twice, since Meta's layout has both. Tensors keep their dtype.

    Errors: `ModelError` for another family, biases or scaled RoPE, which the layout cannot express, and for
    a missing, unknown or wrong-shaped key; `StorageError` if the disk is full.
    """
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
    params = _meta_params(config, source)
    layout = list(slots(params, config.intermediate_size, config.vocab_size))
    with ExitStack() as opened:
        found: dict[tuple[str, str], Any] = {}
        try:
            for part, pattern in (("plain", "*.safetensors"), ("mtp", f"{FOLDER}/*.safetensors")):
                for file in sorted(source.glob(pattern)):
                    tensors = opened.enter_context(safe_open(file, framework="pt"))
                    found |= {(part, name): tensors for name in list(tensors.keys())}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"model {source} cannot be read ({error}); export it again") from error
        if config.tie_word_embeddings:
            found[("plain", "lm_head.weight")] = None
        wanted = {(slot.part, slot.hf_name) for slot in layout}
        for what, keys in (("missing", wanted - found.keys()), ("unknown", found.keys() - wanted)):
            if keys:
                raise ModelError(
                    f"model {source}: {len(keys)} weights {what}, first {min(keys)[1]!r}; {REMEDY}"
                )
        state = {}
        for slot in layout:
            tied = found[(slot.part, slot.hf_name)] is None
            name = "model.embed_tokens.weight" if tied else slot.hf_name
            state[slot.meta_name] = _to_meta(found[(slot.part, name)].get_tensor(name), slot, source)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(state, directory / CHECKPOINT)
            content = params.model_dump(exclude_none=True) | {"vocab_size": config.vocab_size}
            (directory / "params.json").write_text(json.dumps(content, indent=1))
        except (OSError, RuntimeError) as error:
            message = f"cannot write {directory} ({error}); free space or name another directory"
            raise StorageError(message) from error


def _open_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} is not a checkpoint of tensors ({reason}); copy it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} is not a flat dictionary of tensors; {REMEDY}")
    return dict(state)


def _account_for(state: Mapping[str, Tensor], layout: list[Slot], path: Path) -> None:
    # Old checkpoints carry the rotary frequencies, which follow from params.json.
    names = state.keys() - {"rope.freqs"}
    wanted = {slot.meta_name for slot in layout}
    for what, keys in (("missing", wanted - names), ("unknown", names - wanted)):
        if keys:
            raise ModelError(f"{path}: {len(keys)} keys {what}, first {min(keys)!r}; {REMEDY}")
    for slot in layout:
        shape = tuple(state[slot.meta_name].shape)
        if shape != slot.shape:
            raise ModelError(f"{path}: {slot.meta_name!r} has shape {shape}, not {slot.shape}; {REMEDY}")


def _to_hf(tensor: Tensor, slot: Slot) -> Tensor:
    if slot.rotary_heads is not None:
        tensor = halves_from_interleaved(tensor, slot.rotary_heads)
    return tensor.contiguous()


def _to_meta(tensor: Tensor, slot: Slot, source: Path) -> Tensor:
    if tuple(tensor.shape) != slot.shape:
        shape = tuple(tensor.shape)
        raise ModelError(f"model {source}: {slot.hf_name!r} has shape {shape}, not {slot.shape}; {REMEDY}")
    if slot.rotary_heads is not None:
        tensor = interleaved_from_halves(tensor, slot.rotary_heads)
    return tensor.contiguous()


def _llama_config(
    params: MetaParams, ffn: int, vocabulary: int, dtype: torch.dtype
) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=vocabulary,
        hidden_size=params.dim,
        intermediate_size=ffn,
        num_hidden_layers=params.num_plain_layers,
        num_attention_heads=params.n_heads,
        num_key_value_heads=params.num_kv_heads,
        max_position_embeddings=params.max_seq_len,
        rms_norm_eps=params.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": params.rope_theta},
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        dtype=dtype,
    )


def _meta_params(config: Any, source: Path) -> MetaParams:
    rope = getattr(config, "rope_parameters", None) or {}
    inexpressible = {
        "the family": config.model_type != "llama",
        "attention_bias": getattr(config, "attention_bias", False),
        "mlp_bias": getattr(config, "mlp_bias", False),
        "scaled RoPE": rope.get("rope_type", "default") != "default",
        "head_dim": getattr(config, "head_dim", None)
        not in (None, config.hidden_size // config.num_attention_heads),
    }
    if named := [what for what, holds in inexpressible.items() if holds]:
        raise ModelError(
            f"model {source}: Meta's layout cannot express {', '.join(named)}; keep Hugging Face's"
        )
    num_heads = stored_num_heads(source) or 1
    return MetaParams(
        dim=config.hidden_size,
        n_layers=config.num_hidden_layers + num_heads - 1,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads,
        norm_eps=config.rms_norm_eps,
        rope_theta=rope["rope_theta"],
        n_future_tokens=num_heads,
        max_seq_len=config.max_position_embeddings,
    )


def _convert_tokenizer(source: Path, directory: Path) -> None:
    """`tokenizer.model` (sentencepiece) as transformers wants it; a checkpoint without one stays without."""
    if not (source / "tokenizer.model").is_file():
        return
    copy_tokenizer(source, directory)
    # Without the class, transformers builds a generic tokenizer that puts no space before the first word.
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    load_tokenizer(directory).save_pretrained(str(directory))
