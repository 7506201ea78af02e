"""The dry run's estimates against real tiny models, and against the numbers of the production configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from tests.tiny import tiny_config
from wmtp_ray.cluster.dry_run import described
from wmtp_ray.cluster.policy import scorer_use
from wmtp_ray.config import LoRAConfig, PolicyConfig, PolicyJobConfig, ValueModelConfig, load_config
from wmtp_ray.models.lora import inject_lora
from wmtp_ray.models.memory import BYTES, OPTIMIZED_BYTES, estimate_memory
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.shapes import KNOWN, DecoderSize, model_shape
from wmtp_ray.models.value_model import ValueModel

CONFIGS = Path(__file__).parents[2] / "configs" / "production"


def test_parameters_are_those_of_the_model() -> None:
    shape = tiny_config()
    size, model = DecoderSize.of(shape), LlamaForCausalLM(shape)
    norms = sum(p.numel() for n, p in model.named_parameters() if "norm" in n)
    counted = size.embedding_parameters + size.layers * size.layer_parameters
    assert counted + norms == sum(p.numel() for p in model.parameters())
    inject_lora(model.model.layers, LoRAConfig(rank=4))
    adapters = sum(p.numel() for n, p in model.named_parameters() if ".lora_" in n)
    assert adapters == size.layers * 4 * size.adapter_sides
    config = PolicyConfig(name="x", num_heads=1, lora=LoRAConfig(rank=4))
    assert estimate_memory(size, config, 100, 16).trained == adapters * OPTIMIZED_BYTES


@pytest.mark.parametrize(("name", "billions"), [("7B_1T_4", 6.7), ("Sheared-LLaMA-2.7B", 2.7)])
def test_known_shapes_have_as_many_parameters_as_their_names_say(name: str, billions: float) -> None:
    shape = model_shape(f"/somewhere/{name}")
    assert shape is not None and name in KNOWN
    size = DecoderSize.of(shape)
    heads = 3 if name == "7B_1T_4" else 0
    total = size.embedding_parameters + (size.layers + heads) * size.layer_parameters
    assert total / 1e9 == pytest.approx(billions, abs=0.05)


@pytest.mark.parametrize(
    "config",
    [
        ValueModelConfig(name="x", train="head", lora=LoRAConfig(rank=4)),
        ValueModelConfig(name="x", train="lora", lora=LoRAConfig(rank=4, last_layers=1)),
        ValueModelConfig(name="x", train="all", lora=LoRAConfig(rank=4, last_layers=1)),
        PolicyConfig(name="x", num_heads=3, lora=LoRAConfig(rank=4)),
        PolicyConfig(name="x", num_heads=3, lora=LoRAConfig(rank=4), head_training="full"),
        PolicyConfig(name="x", num_heads=3, lora=None, head_training="full"),
    ],
    ids=["head", "critic adapters", "critic", "adapters", "adapters and full heads", "policy"],
)
def test_what_is_trained_is_what_a_real_model_trains(
    tiny: Path, config: ValueModelConfig | PolicyConfig
) -> None:
    shape = model_shape(str(tiny))
    assert shape is not None
    estimate = estimate_memory(DecoderSize.of(shape), config, 100, 16)
    if isinstance(config, ValueModelConfig):
        model = ValueModel.from_pretrained(config, tiny)
    else:
        model = MTPPolicy.from_pretrained(
            tiny, config.num_heads, lora=config.lora, head_training=config.head_training
        )
    matrices = {
        n: p.numel() for n, p in model.named_parameters() if "norm" not in n and not n.startswith("head.")
    }
    trained = sum(matrices[n] for n in model.trainable_parameters() if n in matrices)
    assert estimate.trained == trained * OPTIMIZED_BYTES
    assert estimate.weights == (sum(matrices.values()) - trained) * BYTES[config.dtype]


def test_sharding_divides_what_is_in_layers() -> None:
    size = DecoderSize.of(tiny_config(layers=8))
    config = PolicyConfig(name="x", num_heads=1, lora=LoRAConfig(rank=4))
    whole, halves = (estimate_memory(size, config, 100, 16, shards=n) for n in (1, 2))
    assert halves.trained * 2 == whole.trained
    layers = 4 * size.layers * size.layer_parameters
    assert whole.weights - halves.weights == layers // 2 - 4 * size.layer_parameters


def test_what_the_dry_run_says_of_production_without_data_or_models(tmp_path: Path) -> None:
    config = load_config(PolicyJobConfig, CONFIGS / "verifiable.yaml", [f"storage.root={tmp_path}"])
    text = "\n".join(described(config, None, scorer_use(config)))
    assert "2,084 steps, at most 409,600,000 tokens" in text
    assert "memory per worker: about 29" in text and "left of 80" in text
    assert "memory per critic actor: about 8.0 GB" in text and "assumed" in text
    assert "critic actors so that training never waits: 0.12 per train worker" in text
