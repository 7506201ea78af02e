"""The count of operations against PyTorch's own counter on real tiny models, and its parts against each other."""

from __future__ import annotations

from dataclasses import astuple

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from tests.data.indices import random_index
from tests.tiny import tiny_config
from wmtp_ray.config import LoRAConfig, PolicyConfig, ValueModelConfig
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.data.plan import Plan, plan_selection
from wmtp_ray.data.sampling import select
from wmtp_ray.models.flops import TokenWork, critics_needed, forward_flops, training_flops
from wmtp_ray.models.lora import inject_lora
from wmtp_ray.models.shapes import DecoderSize

TOKENS = 96
SIZE = DecoderSize.of(tiny_config())
FULL_ATTENTION = TokenWork(TOKENS, TOKENS, TOKENS * TOKENS)
"""PyTorch's counter takes attention for full: it does not know what the mask leaves out."""


def counted(lora: LoRAConfig | None, train: bool) -> int:
    """Operations of a plain causal model on one sequence whose every position has a target."""
    model = LlamaForCausalLM._from_config(
        tiny_config(), attn_implementation="eager"
    )  # counted, unlike the fused kernel
    if lora is not None:
        model.requires_grad_(False)
        inject_lora(model.model.layers[-(lora.last_layers or 99) :], lora)
    ids = torch.arange(TOKENS)[None] + 5
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train):
        logits = model(ids, use_cache=False).logits
        if train:
            logits.sum().backward()
    return counter.get_total_flops()


def test_a_forward_pass_costs_what_pytorch_counts() -> None:
    assert forward_flops(SIZE, FULL_ATTENTION) == pytest.approx(counted(None, train=False), rel=0.01)


@pytest.mark.parametrize(
    "lora", [None, LoRAConfig(rank=8), LoRAConfig(rank=8, last_layers=1)], ids=["full", "all layers", "last"]
)
def test_a_training_step_costs_what_pytorch_counts(lora: LoRAConfig | None) -> None:
    config = PolicyConfig(name="x", num_heads=1, lora=lora, head_training="full" if lora is None else "lora")
    ours = training_flops(SIZE, config, FULL_ATTENTION)
    # Of the lowest layer that is reached, PyTorch leaves out gradients of inputs that nothing below asks for.
    assert ours == pytest.approx(counted(lora, train=True), rel=0.06)


def test_heads_cost_a_layer_and_the_unembedding_of_their_targets() -> None:
    lora = LoRAConfig(rank=8, last_layers=1)
    one, two = (PolicyConfig(name="x", num_heads=k, lora=lora) for k in (1, 2))
    work = TokenWork(10.0)
    layer = 4 * SIZE.layer_parameters + 6 * 8 * SIZE.adapter_sides
    assert training_flops(SIZE, two, work) - training_flops(SIZE, one, work) == 10 * layer
    logits = training_flops(SIZE, one, TokenWork(0.0, 3.0))
    assert logits == 3 * 4 * SIZE.vocabulary * SIZE.width


def test_a_critics_backward_reaches_what_it_trains() -> None:
    work = TokenWork(10.0, 0.0, 55.0)
    head, lora, everything = (
        training_flops(SIZE, ValueModelConfig(name="x", train=train, lora=adapters), work)
        for train, adapters in (("head", None), ("lora", LoRAConfig(rank=1)), ("all", None))
    )
    assert head == forward_flops(SIZE, work)
    assert 2 * head < lora < everything == 3 * head
    assert critics_needed(3.0, 1.0, workers=4) == (pytest.approx(4 / 3), 2)


def plan_of(epochs: float, solutions: str = "correct") -> Plan:
    index = random_index(12, 90)
    sampling = SamplingConfig(solutions=solutions)  # type: ignore[arg-type]
    config = PlanConfig(epochs=epochs, micro_batches_per_step=2, samples_per_micro_batch=2)
    return plan_selection(index, "store", select(index, "store", sampling), sampling, config)


def test_heads_that_train_in_full_cost_the_gradients_of_their_weights() -> None:
    lora = LoRAConfig(rank=8)
    adapted, whole = (
        training_flops(
            SIZE, PolicyConfig(name="x", num_heads=4, lora=lora, head_training=how), FULL_ATTENTION
        )
        for how in ("lora", "full")
    )
    adapters = 6 * lora.rank * SIZE.adapter_sides
    assert whole - adapted == FULL_ATTENTION.tokens * 3 * (2 * SIZE.layer_parameters - adapters)


@pytest.mark.parametrize("heads", [0, 1, 4])
def test_the_work_of_a_plan_is_that_of_its_steps(heads: int) -> None:
    plan = plan_of(2.0)
    work = TokenWork.of(plan, heads)
    assert work.tokens == plan.useful_tokens
    assert work.targets == sum(s.head_targets(k) for s in plan.steps() for k in range(1, heads + 1))
    lengths = [int(n) for s in plan.steps() for m in s.micro_batches for n in m.tokens]
    assert work.attended == sum(n * (n + 1) / 2 for n in lengths)
    by_step = TokenWork.by_step(plan, heads)
    assert [float(sum(part)) for part in astuple(by_step)] == list(astuple(work))  # type: ignore[arg-type]


def test_a_row_is_scored_once_whatever_the_epochs() -> None:
    once = TokenWork.of(plan_of(1.0), 1)
    assert TokenWork.once(plan_of(3.0), 1) == once
    assert TokenWork.of(plan_of(3.0), 1).tokens == 3 * once.tokens
