"""From numbers [seeds, problems] to rows, contrasts and sentences."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from wmtp_ray.evaluation.comparison import (
    LOSS,
    ArmResult,
    CellCost,
    Comparison,
    compare,
)
from wmtp_ray.evaluation.listings import listings, markdown, to_csv, to_json
from wmtp_ray.report.comparison import comparison_report
from wmtp_ray.report.panels.curves import mean_curve
from wmtp_ray.report.runs import TrainingRun

SOLVED = "pass@1 (mini)"
EFFECTS = {"uniform": 0.0, "critic": -0.5, "again": 0.0, "unknown": 0.01}


def comparison(seeds: int) -> Comparison:
    """Four arms: one better, one the same to the last bit, one a little worse of a model whose shape is not known."""
    generator = np.random.default_rng(0)
    base_SP = 2 + generator.normal(size=(1, 20)) + generator.normal(size=(seeds, 1)) * 0.1
    noise_SP = {
        name: 0.02 * generator.normal(size=(seeds, 20)) * (effect != 0) for name, effect in EFFECTS.items()
    }
    arms = [
        ArmResult(
            name=name,
            rate=1e-3,
            costs=tuple(
                CellCost(
                    policy=math.nan if name == "unknown" else 2e12,
                    scorer_training=3e12 if name == "critic" else 0.0,
                    scoring=1e12 if name == "critic" else 0.0,
                    steps=20,
                    tokens=1000 + seed,
                    passes=2.0,
                    labelled=500 if name == "critic" else 100,
                )
                for seed in range(seeds)
            ),
            device_seconds=60.0,
            search_flops=0.0,
            metrics={LOSS: base_SP + effect + noise_SP[name], SOLVED: (base_SP > 2.0).astype(float)},
        )
        for name, effect in EFFECTS.items()
    ]
    pairs = [("again", "uniform"), ("unknown", "uniform")]
    return compare("test", range(seeds), arms, ("critic", "uniform"), pairs, {"compared at": "abc"})


def test_five_seeds_find_what_is_there_and_say_what_they_would_have_missed() -> None:
    found = comparison(5)
    assert found.primary.judgement == "differs" and found.primary.estimate.mean == pytest.approx(
        -0.5, abs=0.02
    )
    first, same, _, *others = found.sentences
    assert first.startswith("Primary: critic − uniform") and first.endswith("critic did better than uniform.")
    assert same.endswith(
        "No problem under any seed tells the two apart, so this says nothing of what was missed."
    )
    assert others == [
        f"critic − uniform, again − uniform, unknown − uniform; {SOLVED}: none of 20 problems tells any of these apart "
        "under any of 5 seeds, so this says nothing of what was missed."
    ]


def test_four_seeds_claim_nothing_whatever_the_numbers() -> None:
    found = comparison(4)
    assert found.primary.p_value < 0.01
    told_apart = [
        sentence for sentence in found.sentences if "says nothing of what was missed" not in sentence
    ]
    assert len(told_apart) == 2
    assert all("No difference is claimed with fewer than 5 seeds" in sentence for sentence in told_apart)
    assert not any("did better" in sentence for sentence in found.sentences)


def test_secondary_contrasts_are_corrected_together_and_the_primary_alone() -> None:
    found = comparison(5)
    assert found.primary.adjusted_p == found.primary.p_value
    weakest = min(found.secondary, key=lambda c: c.p_value)
    assert weakest.adjusted_p == pytest.approx(min(1.0, 2 * weakest.p_value))


@pytest.mark.parametrize("write", [markdown, to_csv, lambda c: json.dumps(to_json(c), allow_nan=False)])
def test_every_form_names_every_arm(write: Callable[[Comparison], str]) -> None:
    text = write(comparison(3))
    assert all(name in text for name in EFFECTS)


def test_rows_add_up_and_what_is_not_known_is_said() -> None:
    found = comparison(3)
    costs = {row[0]: row for row in list(listings(found))[1].rows}
    assert costs["critic"][4:8] == ("2", "3", "1", "6") and costs["critic"][-1] == "500"
    assert costs["unknown"][4] == costs["unknown"][7] == "unknown"
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert len(rows) == 4 * 3 * 2 + 3 * 2
    uniform = [
        float(r["value"])
        for r in rows
        if r["arm"] == "uniform" and r["metric"] == LOSS and r["seed"] != "all"
    ]
    assert uniform == pytest.approx(found.arms[0].metrics[LOSS].mean(axis=1).tolist())


def test_the_page_loads_nothing_and_says_the_sentence() -> None:
    records = [{"step": step, "loss_head_1": 2.0 / step, "grad_norm": float(step)} for step in (1, 2, 3)]
    runs = [TrainingRun(f"cell-{seed}", tuple(records)) for seed in range(3)]
    html = comparison_report(comparison(3), {"uniform": runs, "critic": runs}, "name: test")
    assert "No difference is claimed" in html and html.count("<svg") == 4
    assert "gradient norm" in html and html.count(">critic<") >= 3
    assert not any(mark in html for mark in ("<script src", "<link", "url(http", 'src="http'))


def test_an_arms_curve_is_the_mean_over_its_seeds_where_all_have_a_number() -> None:
    one, other = ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]), ([2.0, 3.0, 4.0], [7.0, 8.0, 9.0])
    assert mean_curve([one, other]) == ([2.0, 3.0], [6.0, 7.0])
    assert mean_curve([one, ([], [])]) == ([], [])
