"""What a job makes of the records of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.data.stores import build_store, synthetic_problems
from wmtp_ray.cluster.job import steps_before
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.data.plan import Plan, make_plan
from wmtp_ray.errors import StorageError

METRICS = Path("metrics.jsonl")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast) -> Plan:
    """Five steps of three samples, the last of one."""
    store = build_store(tmp_path_factory.mktemp("store") / "s", synthetic_problems(40), byte_tokenizer)
    shape = PlanConfig(micro_batches_per_step=3, samples_per_micro_batch=1)
    return make_plan(store, SamplingConfig(solutions="correct", num_samples=13), shape)


@pytest.fixture
def steps(plan: Plan) -> list[dict[str, Any]]:
    return [
        {"step": step.number + 1, "samples": sum(len(m.rows) for m in step.micro_batches)}
        for step in plan.steps()
    ]


def test_a_run_has_every_step_and_a_continued_one_those_that_were_left(plan: Plan, steps: list[Any]) -> None:
    assert [record["samples"] for record in steps] == [3, 3, 3, 3, 1]
    assert steps_before(steps, plan, continued=False, path=METRICS) == 0
    assert [steps_before(steps[n:], plan, continued=True, path=METRICS) for n in range(5)] == list(range(5))


@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.parametrize(
    ("changed", "step"),
    [
        (lambda steps: steps[:2] + steps[3:], 3),
        (lambda steps: steps[:3] + steps[2:], 4),
        (lambda steps: steps[:4], 5),
        (lambda steps: [*steps[:3], steps[3] | {"samples": 2}, steps[4]], 4),
    ],
    ids=["lost", "twice", "lost at the end", "other samples"],
)
def test_steps_that_are_not_as_planned_are_named(
    plan: Plan, steps: list[Any], changed: Any, step: int, continued: bool
) -> None:
    with pytest.raises(StorageError, match=rf"metrics\.jsonl: step {step} is not there once .* use --fresh"):
        steps_before(changed(steps), plan, continued, METRICS)


def test_only_a_continued_run_lacks_first_steps(plan: Plan, steps: list[Any]) -> None:
    for missing in (steps[2:], []):
        with pytest.raises(StorageError, match=r"metrics\.jsonl: step 1 is not there once"):
            steps_before(missing, plan, continued=False, path=METRICS)
