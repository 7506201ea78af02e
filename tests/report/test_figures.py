"""What the figures draw."""

from __future__ import annotations

import numpy as np

from wmtp_ray.report.figures import line_chart, moving_mean


def test_only_long_noisy_curves_are_smoothed() -> None:
    noise = np.random.default_rng(0).normal(size=100)
    steady = np.linspace(2.0, 1.0, 100)
    assert moving_mean(noise[:50].tolist()) is None and moving_mean(steady.tolist()) is None
    assert moving_mean([1.0] * 50 + [2.0] * 50) is None and moving_mean([float("nan")] * 100) is None
    smooth = moving_mean([float("nan"), *(steady + 0.3 * noise)[1:]])
    assert smooth is not None and np.isfinite(smooth).all()
    assert np.abs(smooth - steady).mean() < 0.5 * np.abs(0.3 * noise).mean()
    assert moving_mean([3.0] + [5.0, 1.0] * 60) is not None


def test_a_smoothed_curve_is_drawn_over_its_own_steps() -> None:
    noise = np.random.default_rng(0).normal(size=100).tolist()
    steps = list(range(100))
    steady, noisy = (line_chart({"a": (steps, y)}, x_label="step", y_label="y") for y in (steps, noise))
    assert "stroke-opacity: 0.3" in noisy and "stroke-opacity: 0.3" not in steady
