"""Busy shares: time is neither lost nor invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.report.activity import OTHER, activities, step_spans
from wmtp_ray.report.panels.resources import evaluation_resources
from wmtp_ray.storage.timeline import Span

LENGTHS = st.lists(st.floats(0.01, 50), min_size=1, max_size=12)


@given(LENGTHS, LENGTHS)
def test_activities_one_after_the_other_fill_the_time(lengths: list[float], gaps: list[float]) -> None:
    spans, moment, idle = [], 1000.0, 0.0
    for number, length in enumerate(lengths):
        spans.append(Span(f"a{number % 3}", moment, moment + length))
        gap = gaps[number % len(gaps)] if number < len(lengths) - 1 else 0.0
        moment, idle = moment + length + gap, idle + gap
    found = activities(spans)
    assert found is not None and found.seconds == pytest.approx(moment - 1000.0)
    for name in found.busy.keys() - {OTHER}:
        own = sum(s.work for s in spans if s.activity == name)
        assert found.worked(name) == pytest.approx(own, rel=1e-6)
    assert found.worked(OTHER) == pytest.approx(idle, rel=1e-6, abs=1e-6)


def test_time_between_attempts_does_not_count() -> None:
    spans = [Span("training", 10, 20), Span("training", 1020, 1030)]
    found = activities(spans, [5, 1010])
    assert found is not None and found.seconds == pytest.approx(15 + 20)
    assert found.worked("training") == pytest.approx(20)
    assert found.worked(OTHER) == pytest.approx(15)


def test_an_evaluation_that_went_on_the_next_day_did_not_start_for_a_day() -> None:
    spans = [Span("sampling", 10, 40), Span("verifying", 20, 40), Span("sampling", 90_010, 90_060)]
    attempts = [{"started": "1970-01-01T00:00:00Z"}, {"started": "1970-01-02T01:00:00Z"}]
    html = evaluation_resources(spans, attempts)
    assert f"<td>{OTHER}</td><td>20.0</td><td>20.0%</td>" in html


def test_scoring_beside_training_covers_nothing() -> None:
    record = {"step": 1, "time": 110.0, "seconds": 10.0, "score_wait_seconds": 4.0, "score_seconds": 20.0}
    spans = step_spans([{"step": 0, "val_loss": 1.0}, record])
    found = activities(spans, [100], {"scoring"})
    assert found is not None
    worked = {name: round(found.worked(name), 6) for name in found.busy}
    assert worked == {OTHER: 0.0, "training": 6.0, "waiting for scores": 4.0, "scoring": 20.0}
    assert np.allclose(found.busy["scoring"], 2.0), "two critics were at it"


def test_nothing_recorded_is_no_timeline() -> None:
    assert activities([]) is None
