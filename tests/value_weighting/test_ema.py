from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting import AdvantageEMA, AdvantageSums

BATCHES = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=0, max_size=8), min_size=1, max_size=25)


def one_row(numbers: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers between masked-out NaNs."""
    values = torch.tensor([[math.nan, *numbers, math.nan]], dtype=torch.float32)
    mask = torch.tensor([[0] + [1] * len(numbers) + [0]])
    return values, mask


def reference(batches: list[list[float]], momentum: float, warmup: int) -> tuple[float, float] | None:
    mean = std = None
    k = 0
    for batch in batches:
        if not batch:
            continue
        k += 1
        x = np.array(batch, np.float32).astype(np.float64)
        batch_mean, batch_std = x.mean(), math.sqrt(max((x * x).mean() - x.mean() ** 2, 1e-8))
        if mean is None or std is None:
            mean, std = batch_mean, batch_std
            continue
        old = (k - 1) / warmup if k <= warmup else 1 - momentum
        mean, std = old * mean + (1 - old) * batch_mean, old * std + (1 - old) * batch_std
    return None if mean is None or std is None else (mean, std)


@given(batches=BATCHES, momentum=st.floats(0.01, 1.0), warmup=st.integers(0, 12))
def test_updates_equal_the_loop(batches, momentum, warmup):
    ema = AdvantageEMA(momentum, warmup)
    for batch in batches:
        ema.update(*one_row(batch))
    wanted = reference(batches, momentum, warmup)
    if wanted is None:
        with pytest.raises(RuntimeError, match="no advantages yet"):
            _ = ema.mean
    else:
        np.testing.assert_allclose((ema.mean, ema.std), wanted, atol=1e-9, rtol=1e-9)


def test_the_first_update_takes_the_batchs_own_statistics():
    for warmup in (0, 1, 10):
        ema = AdvantageEMA(warmup_steps=warmup)
        ema.update(*one_row([1.0, 3.0]))
        assert (ema.mean, ema.std) == (2.0, 1.0)


def test_worked_example():
    ema = AdvantageEMA(momentum=0.1, warmup_steps=10)
    ema.update(*one_row([2.0]))
    ema.update(*one_row([4.0]))
    assert math.isclose(ema.mean, 3.8)
    assert math.isclose(ema.std, 1e-4)


@given(
    numbers=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_a_step_does_not_depend_on_its_cut_into_micro_batches_or_ranks(numbers, cuts):
    whole, parts = AdvantageEMA(), AdvantageEMA()
    whole.update(*one_row(numbers))
    edges = sorted({0, len(numbers), *(c for c in cuts if c < len(numbers))})
    sums = [AdvantageSums.of(*one_row(numbers[a:b])) for a, b in pairwise(edges)]
    # As ranks do it: tensors are summed elementwise.
    reduced = torch.stack([s.as_tensor() for s in [*sums, AdvantageSums()]]).sum(0)
    parts.update_from_sums(AdvantageSums.from_tensor(reduced))
    np.testing.assert_allclose((parts.mean, parts.std), (whole.mean, whole.std), atol=1e-9, rtol=1e-9)
    added = sum(sums, AdvantageSums())
    np.testing.assert_allclose(added.as_tensor(), reduced, rtol=1e-12)


def test_an_empty_batch_changes_nothing():
    ema = AdvantageEMA()
    ema.update(*one_row([]))
    assert ema.updates == 0
    ema.update(*one_row([1.0, 2.0]))
    before = ema.state_dict()
    ema.update(*one_row([]))
    assert ema.state_dict() == before


def test_state_survives_json_and_continues_bitwise():
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=5).tolist() for _ in range(15)]
    straight, stopped = AdvantageEMA(), AdvantageEMA()
    for batch in batches:
        straight.update(*one_row(batch))
    for batch in batches[:7]:
        stopped.update(*one_row(batch))
    resumed = AdvantageEMA()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    for batch in batches[7:]:
        resumed.update(*one_row(batch))
    assert resumed.state_dict() == straight.state_dict()


def test_damaged_state_and_parameters_are_refused():
    ema = AdvantageEMA()
    with pytest.raises(DataError, match="keys"):
        ema.load_state_dict({"mean": 0.0, "std": 1.0})  # type: ignore[typeddict-item]
    with pytest.raises(DataError, match="damaged"):
        ema.load_state_dict({"mean": math.nan, "std": 1.0, "updates": 3})
    for wrong in ({"momentum": 0.0}, {"momentum": 1.5}, {"warmup_steps": -1}):
        with pytest.raises(ConfigError):
            AdvantageEMA(**wrong)


def test_non_finite_input_is_named_and_leaves_the_statistics_alone():
    ema = AdvantageEMA()
    ema.update(*one_row([1.0, 2.0]))
    before = ema.state_dict()
    with pytest.raises(DataError, match="advantage at row 0, position 2 is inf"):
        ema.update(*one_row([1.0, math.inf]))
    with pytest.raises(DataError, match="not finite"):
        ema.update_from_sums(AdvantageSums(math.nan, 1.0, 3.0))
    assert ema.state_dict() == before
