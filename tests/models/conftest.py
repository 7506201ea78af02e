"""Tiny models on disk, made once per session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from tests.tiny import save_tiny_model, tiny_config

SMALL = {
    "vocab_size": 97,
    "hidden_size": 128,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": type(tiny_config()).from_dict(
        tiny_config(4).to_dict() | {"vocab_size": 97, "pad_token_id": None}
    ),
    "mistral": MistralConfig(**SMALL, head_dim=32, sliding_window=5, tie_word_embeddings=False),
    # The lower two layers read everything, the upper two a window.
    "qwen2": Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=5, max_window_layers=2),
    "qwen3": Qwen3Config(**SMALL, head_dim=32, tie_word_embeddings=True),
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with SmolLM2's tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of each family, without tokenizer; its norms and biases are not what they start as."""
    directory = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(FAMILIES[request.param])
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(directory)
    return directory
