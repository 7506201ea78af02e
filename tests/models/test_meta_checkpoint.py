"""Meta's checkpoint layout, both ways, against a forward pass in Meta's own terms."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece
import torch
from torch import Tensor

from tests.models.batches import packed_and_padded
from wmtp_ray.config import LoRAConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.models import MTPPolicy, load_tokenizer, resolve_model
from wmtp_ray.models.meta_checkpoint import convert_meta_checkpoint, write_meta_checkpoint

DIM, HEADS, KV_HEADS, FFN, VOCABULARY, LAYERS, FUTURE = 48, 4, 2, 80, 97, 5, 3
PARAMS = {
    "dim": DIM,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "n_kv_heads": KV_HEADS,
    "norm_eps": 1e-5,
    "vocab_size": -1,
    "multiple_of": 16,
    "rope_theta": 10000.0,
    "n_future_tokens": FUTURE,
}


def random_checkpoint() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    def layer(prefix: str) -> dict[str, Tensor]:
        kv = DIM // HEADS * KV_HEADS
        return {
            f"{prefix}.attention.wq.weight": weight(DIM, DIM),
            f"{prefix}.attention.wk.weight": weight(kv, DIM),
            f"{prefix}.attention.wv.weight": weight(kv, DIM),
            f"{prefix}.attention.wo.weight": weight(DIM, DIM),
            f"{prefix}.feed_forward.w1.weight": weight(FFN, DIM),
            f"{prefix}.feed_forward.w2.weight": weight(DIM, FFN),
            f"{prefix}.feed_forward.w3.weight": weight(FFN, DIM),
            f"{prefix}.attention_norm.weight": 1 + weight(DIM),
            f"{prefix}.ffn_norm.weight": 1 + weight(DIM),
        }

    state = {"tok_embeddings.weight": weight(VOCABULARY, DIM)}
    for number in range(LAYERS - FUTURE + 1):
        state |= layer(f"layers.{number}")
    for number in range(FUTURE - 1):
        state |= layer(f"extra_heads.{number}")
    return state | {"norm.weight": 1 + weight(DIM), "output.weight": weight(VOCABULARY, DIM)}


def meta_logits(state: dict[str, Tensor], ids_T: Tensor) -> Tensor:
    """Logits [T, K, V] in Meta's terms: rotations as complex numbers on neighbouring pairs."""
    num_tokens, head_dim = len(ids_T), DIM // HEADS
    frequencies = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    turns = torch.polar(
        torch.ones(num_tokens, head_dim // 2), torch.outer(torch.arange(num_tokens), frequencies)
    )

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    def rotated(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns[:, None]).flatten(-2)

    def layer(x: Tensor, prefix: str) -> Tensor:
        w = {
            name.removeprefix(prefix + "."): tensor
            for name, tensor in state.items()
            if name.startswith(prefix + ".")
        }
        y = norm(x, w["attention_norm.weight"])
        q = rotated((y @ w["attention.wq.weight"].T).view(num_tokens, HEADS, head_dim))
        k = rotated((y @ w["attention.wk.weight"].T).view(num_tokens, KV_HEADS, head_dim))
        v = (y @ w["attention.wv.weight"].T).view(num_tokens, KV_HEADS, head_dim)
        out = []
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            scores = q[:, head] @ k[:, group].T / head_dim**0.5
            scores = scores.masked_fill(torch.ones(num_tokens, num_tokens).triu(1).bool(), float("-inf"))
            out.append(scores.softmax(-1) @ v[:, group])
        x = x + torch.cat(out, -1) @ w["attention.wo.weight"].T
        y = norm(x, w["ffn_norm.weight"])
        gate = torch.nn.functional.silu(y @ w["feed_forward.w1.weight"].T)
        return x + (gate * (y @ w["feed_forward.w3.weight"].T)) @ w["feed_forward.w2.weight"].T

    x = state["tok_embeddings.weight"][ids_T]
    for number in range(LAYERS - FUTURE):
        x = layer(x, f"layers.{number}")
    heads = [f"layers.{LAYERS - FUTURE}"] + [f"extra_heads.{number}" for number in range(FUTURE - 1)]
    return torch.stack([norm(layer(x, h), state["norm.weight"]) @ state["output.weight"].T for h in heads], 1)


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    directory = tmp_path / "meta"
    directory.mkdir()
    torch.save(random_checkpoint(), directory / "consolidated.pth")
    (directory / "params.json").write_text(json.dumps(PARAMS))
    return directory


def test_all_heads_give_the_logits_of_metas_own_forward(meta: Path, tmp_path: Path) -> None:
    policy = MTPPolicy.from_pretrained(meta, lora=LoRAConfig(rank=2), cache_dir=tmp_path / "cache")
    assert policy.num_heads == FUTURE
    assert len(policy.runner.layers) == LAYERS - FUTURE + 1
    _, padded = packed_and_padded()
    ids_T = padded.input_ids[3][padded.segment_ids[3] == 0]
    with torch.no_grad():
        logits_TKV = policy(padded)[3, : len(ids_T)]
    torch.testing.assert_close(logits_TKV, meta_logits(random_checkpoint(), ids_T), rtol=1e-4, atol=1e-5)


def test_there_and_back_is_bitwise_the_same(meta: Path, tmp_path: Path) -> None:
    converted = resolve_model(meta, tmp_path / "cache")
    assert resolve_model(meta, tmp_path / "cache") == converted
    write_meta_checkpoint(converted, tmp_path / "back")
    again = torch.load(tmp_path / "back" / "consolidated.pth", weights_only=True)
    original = random_checkpoint()
    assert again.keys() == original.keys()
    assert all(torch.equal(again[name], original[name]) for name in original)
    params = json.loads((tmp_path / "back" / "params.json").read_text())
    assert {key: params[key] for key in ("dim", "n_layers", "n_heads", "n_kv_heads", "n_future_tokens")} == {
        key: PARAMS[key] for key in ("dim", "n_layers", "n_heads", "n_kv_heads", "n_future_tokens")
    }


def test_a_trained_policy_goes_back_to_metas_layout(tiny: Path, tmp_path: Path) -> None:
    policy = MTPPolicy.from_pretrained(tiny, 3, lora=LoRAConfig(rank=2))
    for parameter in policy.trainable_parameters().values():
        parameter.data += 0.02
    policy.save_pretrained(tmp_path / "saved")
    write_meta_checkpoint(tmp_path / "saved", tmp_path / "meta")
    convert_meta_checkpoint(tmp_path / "meta", tmp_path / "again")
    again = MTPPolicy.from_pretrained(tmp_path / "again")
    packed, _ = packed_and_padded(49152)
    with torch.no_grad():
        torch.testing.assert_close(again(packed), policy(packed), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layers.1.ffn_norm.weight"), r"missing, first 'layers\.1\.ffn_norm\.weight'"),
        (
            lambda s: s.pop("extra_heads.1.attention.wk.weight"),
            r"missing, first 'extra_heads\.1\.attention\.wk",
        ),
        (lambda s: s.pop("tok_embeddings.weight"), r"'tok_embeddings\.weight' is missing"),
        (lambda s: s.update({"layers.9.bias": torch.zeros(1)}), r"unknown, first 'layers\.9\.bias'"),
        (
            lambda s: s.update({"norm.weight": torch.zeros(3)}),
            r"'norm\.weight' has shape \(3,\), not \(48,\)",
        ),
        (lambda s: s.update({"nested": {}}), "not a flat dictionary"),
    ],
)
def test_every_key_is_accounted_for(meta: Path, tmp_path: Path, change: object, message: str) -> None:
    state = random_checkpoint()
    change(state)  # type: ignore[operator]
    torch.save(state, meta / "consolidated.pth")
    with pytest.raises(ModelError, match=message):
        convert_meta_checkpoint(meta, tmp_path / "out")


def test_unreadable_parts_are_named(meta: Path, tmp_path: Path, family: Path) -> None:
    if family.name.startswith("llama"):
        write_meta_checkpoint(family, tmp_path / "plain")
    else:
        with pytest.raises(ModelError, match="cannot express the family"):
            write_meta_checkpoint(family, tmp_path / "no")
    (meta / "params.json").write_text(json.dumps({k: v for k, v in PARAMS.items() if k != "dim"}))
    with pytest.raises(ModelError, match=r"params\.json: dim: Field required"):
        convert_meta_checkpoint(meta, tmp_path / "out")
    (meta / "params.json").write_text(json.dumps(PARAMS | {"n_future_tokens": 9}))
    with pytest.raises(ModelError, match="contradict each other"):
        convert_meta_checkpoint(meta, tmp_path / "out")
    (meta / "params.json").write_text(json.dumps(PARAMS))
    (meta / "consolidated.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint of tensors"):
        convert_meta_checkpoint(meta, tmp_path / "out")


def test_a_sentencepiece_tokenizer_comes_along(meta: Path, tmp_path: Path) -> None:
    words = [" ".join(f"word{i % 7} print x{i % 5} = {i}" for i in range(j, j + 9)) for j in range(60)]
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=stream,
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (meta / "tokenizer.model").write_bytes(stream.getvalue())
    tokenizer = load_tokenizer(resolve_model(meta, tmp_path / "cache"))
    reference = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())
    for text in ("print x3 = word2", "if é:\n    print  x1"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == reference.encode(text) and tokenizer.decode(ids) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
