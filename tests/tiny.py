"""The tiny random model of all tests: Llama with SmolLM2's tokenizer, fast, and loadable by vLLM."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from wmtp_ray.models import resolve_model
from wmtp_ray.models.tokenizer import copy_tokenizer

SEED = 20
VOCABULARY = 49152


def model_cache() -> Path | None:
    """Where tests convert the embedded model, once: `WMTP_TEST_CACHE`, else the default cache."""
    place = os.environ.get("WMTP_TEST_CACHE")
    return Path(place) if place else None


def smollm2_directory() -> Path:
    """The embedded SmolLM2-135M as a plain directory."""
    return resolve_model("smollm2-135m", model_cache())


def tiny_config(layers: int = 3) -> LlamaConfig:
    """Width 128, 2 heads of 64, 1 key-value head, tied embeddings."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def save_tiny_model(directory: Path, layers: int = 3) -> Path:
    """Write the tiny model (float32, the same weights every time) and SmolLM2's tokenizer to `directory`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(tiny_config(layers))
    model.save_pretrained(directory)
    copy_tokenizer(smollm2_directory(), directory)
    return directory
