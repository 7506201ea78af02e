"""The critic: heads, packed against padded, whole on disk and strict in reading."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForTokenClassification

from tests.models.batches import assert_same_samples, packed_and_padded
from tests.tiny import save_tiny_model
from wmtp_ray.config import LoRAConfig, ValueModelConfig
from wmtp_ray.errors import ModelError, StorageError
from wmtp_ray.models import ValueModel, load_tokenizer, read_card, tokenizer_fingerprint
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage.manifest import write_manifest


def config_of(directory: Path, **settings: object) -> ValueModelConfig:
    return ValueModelConfig.model_validate({"name": str(directory), "lora": LoRAConfig(rank=4)} | settings)


def trained(directory: Path, **settings: object) -> ValueModel:
    """A critic whose trained tensors have left their start."""
    model = ValueModel.from_pretrained(config_of(directory, **settings), seed=4)
    generator = torch.Generator().manual_seed(8)
    for parameter in model.trainable_parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def values(model: ValueModel, packed: bool = True, vocabulary: int = 97) -> Tensor:
    with torch.no_grad():
        return model(packed_and_padded(vocabulary)[0 if packed else 1])


@pytest.mark.parametrize("head", ["linear", "sigmoid", "mlp"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_start_at_the_initial_bias_in_float32(family: Path, head: str, dtype: str) -> None:
    model = ValueModel.from_pretrained(config_of(family, head=head, dtype=dtype, initial_bias=0.5))
    start = torch.tensor(0.5).sigmoid() if head == "sigmoid" else torch.tensor(0.5)
    found = values(model)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, start.expand_as(found))
    assert {p.dtype for p in model.head.parameters()} == {torch.float32}


@pytest.mark.parametrize("head", ["linear", "sigmoid", "mlp"])
def test_packed_rows_equal_padded_rows(family: Path, head: str) -> None:
    packed, padded = packed_and_padded()
    model = trained(family, head=head)
    assert_same_samples(values(model), packed, values(model, packed=False), padded)
    assert values(model).std() > 0.01


@pytest.mark.parametrize("num_layers", [None, 3, 1])
def test_a_linear_head_reads_the_normed_hidden_state_of_transformers(
    family: Path, num_layers: int | None
) -> None:
    _, padded = packed_and_padded()
    model = trained(family, head="linear", train="head", num_layers=num_layers)
    assert len(model.runner.layers) == (num_layers or 4)
    whole = AutoModel.from_pretrained(family)
    with torch.no_grad():
        outputs = whole(input_ids=padded.input_ids, output_hidden_states=True)
        # The last of the hidden states is normed, those below are not.
        hidden_RTD = (
            whole.norm(outputs.hidden_states[num_layers]) if num_layers else outputs.last_hidden_state
        )
        expected = (hidden_RTD @ model.head.out.weight.T + model.head.out.bias).squeeze(-1)
    real = padded.segment_ids == 0
    torch.testing.assert_close(values(model, packed=False)[real], expected[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("train", "has_adapters", "trains_weights"),
    [("lora", True, False), ("head", False, False), ("all", False, True)],
)
def test_what_is_trained(family: Path, train: str, has_adapters: bool, trains_weights: bool) -> None:
    model = ValueModel.from_pretrained(config_of(family, train=train, dtype="bfloat16"))
    names = model.trainable_state_dict()
    assert any(".lora_A." in name for name in names) == has_adapters
    assert any("embed_tokens" in name for name in names) == trains_weights
    assert {tensor.dtype for tensor in names.values()} == {torch.float32}
    groups = model.parameter_groups()
    assert len(groups.head) == 6 and len(groups.head) + len(groups.backbone) == len(names)
    model(packed_and_padded()[0]).sum().backward()
    # The last layer of the head is zero, so only it learns in the very first step.
    assert groups.head[-2].grad is not None and groups.head[-2].grad.abs().sum() > 0
    with pytest.raises(ValueError, match="train = lora without lora"):
        config_of(family, train="lora", lora=None)


def test_a_critic_cannot_have_more_layers_than_its_backbone(family: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.num_layers 5: the model has 4 layers"):
        ValueModel.from_pretrained(config_of(family, num_layers=5))
    with pytest.raises(ModelError, match=r"lora\.last_layers 3: the model has 2 layers"):
        ValueModel.from_pretrained(config_of(family, num_layers=2, lora=LoRAConfig(last_layers=3)))


@pytest.fixture(scope="module")
def saved(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ValueModel]:
    model = trained(tiny, head="mlp")
    directory = tmp_path_factory.mktemp("critic") / "saved"
    model.save(directory, {"lr": 1e-4})
    return directory, model


def test_a_saved_critic_is_whole(saved: tuple[Path, ValueModel], tiny: Path) -> None:
    directory, model = saved
    again = ValueModel.load(directory)
    assert torch.equal(values(again, vocabulary=49152), values(model, vocabulary=49152))
    assert again.fingerprint == model.fingerprint
    assert not any(parameter.requires_grad for parameter in again.parameters()) and not again.training
    assert ValueModel.load(directory, dtype="bfloat16").fingerprint == model.fingerprint
    card = read_card(directory)
    assert card.training_config == {"lr": 1e-4}
    assert card.tokenizer_fingerprint == tokenizer_fingerprint(load_tokenizer(tiny))


@pytest.mark.parametrize("train", ["head", "all"])
@pytest.mark.parametrize("num_layers", [None, 2])
def test_critics_without_adapters_are_saved_too(
    tiny: Path, tmp_path: Path, train: str, num_layers: int | None
) -> None:
    model = trained(tiny, train=train, num_layers=num_layers)
    model.save(tmp_path, {})
    assert torch.equal(values(ValueModel.load(tmp_path), vocabulary=49152), values(model, vocabulary=49152))
    assert (tmp_path / "backbone.safetensors").exists() == (train == "all")


def test_fingerprints_follow_weights_and_layers(saved: tuple[Path, ValueModel], tiny: Path) -> None:
    _, model = saved
    same, other = trained(tiny, head="mlp"), trained(tiny, head="mlp")
    other.head.out.bias.data += 1e-3
    assert same.fingerprint == model.fingerprint != other.fingerprint
    heads = [trained(tiny, train="head", num_layers=n).fingerprint for n in (None, 1, 2)]
    assert len(set(heads)) == 3
    assert trained(tiny, train="head", lora=None).fingerprint == heads[0]  # adapters that there are none of


@pytest.mark.parametrize(
    ("file", "name"),
    [("head.safetensors", "head.out.weight"), ("backbone.safetensors", "layers.1.mlp.up_proj.lora_B")],
)
@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_tensor_that_does_not_fit_is_named(
    saved: tuple[Path, ValueModel], tmp_path: Path, file: str, name: str, change: str
) -> None:
    directory = tmp_path / "changed"
    shutil.copytree(saved[0], directory)
    tensors = load_file(directory / file)
    full_name = next(full for full in tensors if name in full)
    if change == "missing":
        del tensors[full_name]
    elif change == "extra":
        full_name = "head.surplus"
        tensors[full_name] = torch.zeros(1)
    else:
        tensors[full_name] = tensors[full_name][..., :1].contiguous()
    (directory / "manifest.json").unlink()
    save_file(tensors, directory / file)
    with pytest.raises(StorageError, match="incomplete"):
        ValueModel.load(directory)
    write_manifest(directory, KIND, fingerprint="")
    with pytest.raises(ModelError, match=full_name.replace(".", r"\.")):
        ValueModel.load(directory)


def test_another_backbone_or_tokenizer_is_refused(
    saved: tuple[Path, ValueModel], tiny: Path, tmp_path: Path
) -> None:
    other = save_tiny_model(tmp_path / "other", layers=4)
    with pytest.raises(ModelError, match="weights differ"):
        ValueModel.load(saved[0], backbone=other)
    same_weights = tmp_path / "same"
    shutil.copytree(tiny, same_weights)
    assert ValueModel.load(saved[0], backbone=same_weights).fingerprint == saved[1].fingerprint
    path = same_weights / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace('"content": "<jupyter_code>"', '"content": "<other_code>"'))
    with pytest.raises(ModelError, match="another tokenizer"):
        ValueModel.load(saved[0], backbone=same_weights)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match="no usable tokenizer"):
        ValueModel.load(saved[0], backbone=same_weights)


@pytest.mark.parametrize("num_layers", [None, 2])
def test_a_linear_critic_is_a_token_classifier(tiny: Path, tmp_path: Path, num_layers: int | None) -> None:
    model = trained(tiny, head="linear", num_layers=num_layers)
    model.export_token_classification(tmp_path)
    classifier = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    _, padded = packed_and_padded(49152)
    with torch.no_grad():
        logits = classifier(input_ids=padded.input_ids).logits.squeeze(-1)
    real = padded.segment_ids == 0
    expected = values(model, packed=False, vocabulary=49152)
    torch.testing.assert_close(logits[real], expected[real], rtol=1e-5, atol=1e-5)
    assert len(load_tokenizer(tmp_path)) == 49152
    with pytest.raises(ModelError, match="'mlp'"):
        trained(tiny, head="mlp").export_token_classification(tmp_path)
