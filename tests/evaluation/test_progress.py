"""One line of progress: pass rates so far, and time left by the rate since the first sample."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wmtp_ray.evaluation.progress import LINE_EVERY_SECONDS, EvaluationProgress
from wmtp_ray.evaluation.samples import JudgedSample

SAMPLE = JudgedSample("base", 0.2, "b", "p", 0, "x", 1, False, "passed", "", 1, 1, 0.1)


def test_pass_rates_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    progress = EvaluationProgress(10, 16, clock=lambda: now)
    for number in range(6):
        now = 100 + number * LINE_EVERY_SECONDS  # the engine loaded for 100 s
        status = "passed" if number in (0, 3) else "wrong_answer"
        progress(replace(SAMPLE, model="base" if number % 2 else "new", status=status))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "judged 11/16  passed: new T=0.2 100.0% of 1"
    assert lines[1] == "judged 12/16  passed: new T=0.2 100.0% of 1  base T=0.2 0.0% of 1  1:00 left"
    assert lines[-1] == "judged 16/16  passed: new T=0.2 33.3% of 3  base T=0.2 33.3% of 3"
