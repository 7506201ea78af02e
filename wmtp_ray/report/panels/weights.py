"""Token weights: their histogram, and heat maps of real samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from wmtp_ray.report.figures import histogram_chart
from wmtp_ray.report.markup import figure, note, section
from wmtp_ray.report.runs import TrainingRun, WeightedSample

HISTOGRAM_TOP = 3.0


def token_weights(runs: Sequence[TrainingRun]) -> str:
    """Of every run that weighted its tokens."""
    histograms = {run.name: bins for run in runs if (bins := run.weight_histogram) is not None}
    parts = []
    if histograms:
        chart = histogram_chart(histograms, top=HISTOGRAM_TOP, x_label="token weight")
        parts.append(
            figure(chart) + note("All response tokens of all steps; weights above 3 in the last bin.")
        )
    parts += [heat_maps(run) for run in runs if run.samples]
    return section("Token weights", *parts)


def heat_maps(run: TrainingRun) -> str:
    """The samples of one run, every token tinted by its weight."""
    legend = "".join(
        f'<span class=token style="{_tint(w)}">{w:g}</span>' for w in (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)
    )
    return (
        f"<h3>{escape(run.name)}: weights on held-out samples</h3>"
        f"<p class=note>Weight {legend}. Touch or point at a token for its value, advantage and weight.</p>"
        + "".join(map(_heat_map, run.samples))
    )


def _heat_map(sample: WeightedSample) -> str:
    columns = zip(sample.tokens, sample.values, sample.advantages, sample.weights, strict=True)
    tokens = "".join(
        f'<span class=token tabindex=0 style="{_tint(w)}" '
        f'title="weight {w:.2f}, advantage {a:+.3f}, value {v:.3f}">{escape(text)}</span>'
        for text, v, a, w in columns
    )
    return f"<figure><figcaption>sample {escape(sample.sample_id)}</figcaption><pre class=heat>{tokens}</pre></figure>"


def _tint(weight: float) -> str:
    """Blue below 1, orange above, on a logarithmic scale that is full at 0.1 and 3."""
    strength = math.log(max(weight, 1e-3)) / math.log(3.0 if weight > 1 else 10.0)
    hue = "var(--more)" if strength > 0 else "var(--less)"
    return f"background:color-mix(in srgb,{hue} {min(abs(strength), 1.0) * 75:.0f}%,transparent)"
