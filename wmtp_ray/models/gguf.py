"""GGUF files become plain Hugging Face directories: weights dequantised, tokenizer included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from gguf import GGUFReader
from tokenizers import pre_tokenizers

from wmtp_ray.errors import ModelError
from wmtp_ray.models.export import save_plain_model
from wmtp_ray.models.quiet import quiet_transformers

GGUF_MAGIC = b"GGUF"
STORED_DTYPE = torch.bfloat16
"""Weights of 4 to 8 bits lose nothing that matters in bfloat16, which halves load time and disk."""


def check_gguf(path: Path) -> None:
    """`ModelError` unless the file starts like a GGUF file."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != GGUF_MAGIC:
        raise ModelError(
            f"{path} is not a GGUF file (starts with {magic!r}, not {GGUF_MAGIC!r}); download it again"
        )


def convert_gguf(path: Path, directory: Path) -> None:
    """Write the model of a GGUF file to `directory` (config, safetensors in bfloat16, tokenizer).

    transformers dequantises, but keeps a quantised configuration that cannot be saved: the weights move
    into a model built from the same configuration without it. `ModelError` where transformers cannot read
    the architecture.
    """
    check_gguf(path)
    try:
        with quiet_transformers():
            dequantised = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        pre_tokenizer_name = _text_field(path, "tokenizer.ggml.pre")
    except (ValueError, KeyError, IndexError, NotImplementedError, OSError) as error:
        message = f"{path} cannot be converted: {error}; use a GGUF of a Llama, Qwen2, Qwen3 or Mistral model"
        raise ModelError(message) from error
    if pre_tokenizer_name == "smollm":
        # The conversion keeps only the byte-level splitter; this family also splits digits first,
        # which decides how spaces before a number are cut: "  1" is [two spaces][1], not
        # [space][space][1].
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])  # type: ignore[reportAttributeAccessIssue]
    config = dequantised.config
    plain: dict[str, Any] = {k: v for k, v in config.to_dict().items() if k != "quantization_config"}
    state = dequantised.state_dict()
    save_plain_model(type(config).from_dict(plain), state, directory, dtype=STORED_DTYPE)
    tokenizer.save_pretrained(directory)


def _text_field(path: Path, key: str) -> str | None:
    field = GGUFReader(path).get_field(key)
    return None if field is None else str(field.contents())
