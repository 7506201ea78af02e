"""The policy against transformers itself, packed against padded, sequential heads against one backward pass."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.models.batches import assert_same_samples, packed_and_padded
from wmtp_ray.config import LoRAConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.models import MTPPolicy

SMALL_LORA = LoRAConfig(rank=4, alpha=8)


def perturb(policy: MTPPolicy) -> None:
    """Move every trained tensor away from its start (B is zero there)."""
    generator = torch.Generator().manual_seed(3)
    for parameter in policy.trainable_parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


def original_logits(directory: Path, batch_ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    with torch.no_grad():
        return model(input_ids=batch_ids).logits


def test_every_head_starts_as_the_original_model(family: Path) -> None:
    _, padded = packed_and_padded()
    policy = MTPPolicy.from_pretrained(family, 3, lora=SMALL_LORA)
    with torch.no_grad():
        logits_RTKV = policy(padded)
    reference = original_logits(family, padded.input_ids)
    real = padded.segment_ids == 0
    for k in range(3):
        torch.testing.assert_close(logits_RTKV[:, :, k][real], reference[real], rtol=1e-5, atol=1e-5)


def test_packed_rows_equal_padded_rows(family: Path) -> None:
    packed, padded = packed_and_padded()
    policy = MTPPolicy.from_pretrained(family, 3, lora=SMALL_LORA)
    perturb(policy)
    with torch.no_grad():
        assert_same_samples(policy(packed), packed, policy(padded), padded)


def test_nothing_crosses_from_one_segment_to_another(family: Path) -> None:
    packed, _ = packed_and_padded()
    policy = MTPPolicy.from_pretrained(family, 2)
    other_ids = torch.where(packed.segment_ids == 1, packed.input_ids, (packed.input_ids + 1) % 97)
    with torch.no_grad():
        before, after = policy(packed), policy(dataclasses.replace(packed, input_ids=other_ids))
    assert torch.equal(before[packed.segment_ids == 1], after[packed.segment_ids == 1])
    assert not torch.equal(before[packed.segment_ids == 0], after[packed.segment_ids == 0])


def test_one_head_is_the_original_model(family: Path) -> None:
    policy = MTPPolicy.from_pretrained(family, 1)
    model = AutoModelForCausalLM.from_pretrained(family)
    assert sum(p.numel() for p in policy.parameters()) == sum(p.numel() for p in model.parameters())
    assert policy.num_heads == 1


@pytest.mark.parametrize("lora", [None, LoRAConfig(rank=4, last_layers=2)], ids=["full", "lora"])
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_sequential_heads_give_the_gradients_of_one_backward_pass(
    family: Path, lora: LoRAConfig | None, gradient_checkpointing: bool
) -> None:
    packed, _ = packed_and_padded()
    policy = MTPPolicy.from_pretrained(family, 3, lora=lora, gradient_checkpointing=gradient_checkpointing)
    perturb(policy)
    targets = torch.randn(3, *packed.shape, 97, generator=torch.Generator().manual_seed(1))

    def head_loss(k: int, hidden_RTD: Tensor) -> Tensor:
        return (policy.head(k, hidden_RTD, geometry) @ policy.unembedding.T * targets[k - 1]).sum()

    trunk, geometry = policy.trunk(packed)
    leaf = trunk.detach().requires_grad_(trunk.requires_grad)
    for k in (1, 2, 3):
        head_loss(k, leaf).backward()
    trunk.backward(leaf.grad)
    sequential = {
        name: p.grad.clone() for name, p in policy.trainable_parameters().items() if p.grad is not None
    }

    policy.zero_grad()
    trunk, geometry = policy.trunk(packed)
    torch.stack([head_loss(k, trunk) for k in (1, 2, 3)]).sum().backward()
    joint = {name: p.grad for name, p in policy.trainable_parameters().items()}
    assert sequential.keys() == joint.keys()
    for name, gradient in joint.items():
        torch.testing.assert_close(sequential[name], gradient, rtol=1e-4, atol=1e-4)


def test_layers_below_the_first_adapter_run_without_autograd(family: Path) -> None:
    packed, _ = packed_and_padded()
    recorded: list[bool] = []

    def autograd_of_layers(policy: MTPPolicy) -> list[bool]:
        recorded.clear()
        for layer in policy.runner.layers:
            layer.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        policy.head(1, *policy.trunk(packed))
        return list(recorded)

    two = MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(rank=2, last_layers=2))
    assert autograd_of_layers(two) == [False, False, True, True]
    one = MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(rank=2, last_layers=1))
    assert not one.trunk(packed)[0].requires_grad
    assert autograd_of_layers(MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(rank=2)))[0]


def test_the_trunk_can_be_frozen_while_heads_warm_up(family: Path) -> None:
    packed, _ = packed_and_padded()
    policy = MTPPolicy.from_pretrained(family, 2, lora=SMALL_LORA)
    names = list(policy.trainable_state_dict())
    policy.set_trunk_trainable(False)
    trunk, geometry = policy.trunk(packed)
    assert not trunk.requires_grad
    assert all(policy.head(k, trunk, geometry).requires_grad for k in (1, 2))
    assert list(policy.trainable_state_dict()) == names
    policy.set_trunk_trainable(True)
    assert policy.trunk(packed)[0].requires_grad


def test_adapters_start_the_same_whatever_else_is_there(family: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    two = MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(rank=4, last_layers=1), seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    four = MTPPolicy.from_pretrained(family, 4, lora=LoRAConfig(rank=4), seed=5).trainable_state_dict()
    for name, tensor in two.trainable_state_dict().items():
        assert torch.equal(tensor, four[name])
        assert ".lora_A." not in name or tensor.std() > 0
    other = MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(rank=4, last_layers=1), seed=6)
    assert any(not torch.equal(t, four[name]) for name, t in other.trainable_state_dict().items())


def test_adapters_are_float32_on_a_bfloat16_base_and_never_on_the_unembedding(family: Path) -> None:
    packed, _ = packed_and_padded()
    policy = MTPPolicy.from_pretrained(family, 2, dtype="bfloat16", lora=SMALL_LORA)
    assert {p.dtype for p in policy.trainable_parameters().values()} == {torch.float32}
    assert {p.dtype for p in policy.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert not policy.unembedding.requires_grad and policy.unembedding.dtype == torch.bfloat16
    hidden = policy.head(2, *policy.trunk(packed))
    assert hidden.dtype == torch.bfloat16
    hidden.float().sum().backward()
    with pytest.raises(ModelError, match="lm_head"):
        MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(target_modules=("q_proj", "lm_head")))
    with pytest.raises(ModelError, match="q_porj"):
        MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(target_modules=("q_porj",)))
    with pytest.raises(ModelError, match="last_layers 5"):
        MTPPolicy.from_pretrained(family, 2, lora=LoRAConfig(last_layers=5))


def test_adapters_in_bfloat16_get_the_gradients_of_float32_ones(family: Path) -> None:
    packed, _ = packed_and_padded()
    exact = MTPPolicy.from_pretrained(family, 2, lora=SMALL_LORA)
    perturb(exact)
    mixed = MTPPolicy.from_pretrained(family, 2, lora=SMALL_LORA, dtype="bfloat16")
    mixed.load_trainable_state_dict(exact.trainable_state_dict())
    for policy in (exact, mixed):
        policy(packed).float().square().mean().backward()
    wanted = exact.trainable_parameters()
    for name, parameter in mixed.trainable_parameters().items():
        found, expected = parameter.grad, wanted[name].grad
        assert found is not None and expected is not None and found.dtype == torch.float32
        assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.98, name


@pytest.mark.parametrize("lora", [None, SMALL_LORA], ids=["full", "lora+full heads"])
def test_weights_trained_whole_are_float32_and_computed_in_bfloat16(
    family: Path, lora: LoRAConfig | None
) -> None:
    packed, _ = packed_and_padded()
    exact = MTPPolicy.from_pretrained(family, 2, lora=lora, head_training="full")
    mixed = MTPPolicy.from_pretrained(family, 2, lora=lora, head_training="full", dtype="bfloat16")
    assert {p.dtype for p in mixed.trainable_parameters().values()} == {torch.float32}
    assert exact.unembedding.requires_grad == (lora is None)
    logits = mixed(packed)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), exact(packed), rtol=0.1, atol=0.05)
    logits.float().sum().backward()
    assert all(p.grad is not None for p in mixed.trainable_parameters().values())


def test_trainable_state_goes_out_and_in_by_name(family: Path) -> None:
    packed, _ = packed_and_padded()
    policy = MTPPolicy.from_pretrained(family, 3, lora=SMALL_LORA)
    perturb(policy)
    state = {name: tensor.clone() for name, tensor in policy.trainable_state_dict().items()}
    again = MTPPolicy.from_pretrained(family, 3, lora=SMALL_LORA, seed=9)
    again.load_trainable_state_dict(state)
    assert torch.equal(policy(packed), again(packed))

    name = next(iter(state))
    with pytest.raises(ModelError, match=rf"1 tensors missing, first '{name}'"):
        again.load_trainable_state_dict({k: v for k, v in state.items() if k != name})
    with pytest.raises(ModelError, match="1 tensors too many, first 'other'"):
        again.load_trainable_state_dict(state | {"other": state[name]})
    with pytest.raises(ModelError, match=re.escape(f"'{name}' has shape")):
        again.load_trainable_state_dict(state | {name: state[name][:1]})


@pytest.mark.parametrize("lora", [None, SMALL_LORA], ids=["full", "lora"])
def test_a_saved_policy_gives_the_same_logits(tiny: Path, tmp_path: Path, lora: LoRAConfig | None) -> None:
    packed, padded = packed_and_padded(49152)
    policy = MTPPolicy.from_pretrained(tiny, 3, lora=lora)
    perturb(policy)
    policy.save_pretrained(tmp_path)
    again = MTPPolicy.from_pretrained(tmp_path, lora=SMALL_LORA)
    assert again.num_heads == 3
    with torch.no_grad():
        torch.testing.assert_close(again(packed), policy(packed), rtol=1e-5, atol=1e-5)
        fewer = MTPPolicy.from_pretrained(tmp_path, 2)
        torch.testing.assert_close(fewer(packed), policy(packed)[:, :, :2], rtol=1e-5, atol=1e-5)
        # Head 1 is what any other program sees.
        real = padded.segment_ids == 0
        plain = original_logits(tmp_path, padded.input_ids)[real]
        torch.testing.assert_close(plain, policy(padded)[:, :, 0][real], rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match=r"num_heads 4: .* holds 3 heads"):
        MTPPolicy.from_pretrained(tmp_path, 4)


def test_the_exported_adapter_is_the_exported_model(tiny: Path, tmp_path: Path) -> None:
    _, padded = packed_and_padded(49152)
    policy = MTPPolicy.from_pretrained(tiny, 2, lora=LoRAConfig(rank=4, last_layers=2))
    perturb(policy)
    policy.save_adapter(tmp_path / "adapter")
    policy.export_hf(tmp_path / "plain")
    base = AutoModelForCausalLM.from_pretrained(tiny)
    with_adapter = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    with torch.no_grad():
        logits = with_adapter(input_ids=padded.input_ids).logits
    plain = original_logits(tmp_path / "plain", padded.input_ids)
    torch.testing.assert_close(logits, plain, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain, original_logits(tiny, padded.input_ids), atol=1e-3)
    with pytest.raises(ModelError, match="no adapter"):
        MTPPolicy.from_pretrained(tiny, 1).save_adapter(tmp_path / "none")


def test_settings_that_contradict_each_other_are_refused(family: Path) -> None:
    with pytest.raises(ModelError, match="head_training 'lora' without lora"):
        MTPPolicy.from_pretrained(family, 2, head_training="lora")
    with pytest.raises(ModelError, match="num_heads 0"):
        MTPPolicy.from_pretrained(family, 0)
    with pytest.raises(ValueError, match="head 3"):
        policy = MTPPolicy.from_pretrained(family, 2)
        packed, _ = packed_and_padded()
        policy.head(3, *policy.trunk(packed))
