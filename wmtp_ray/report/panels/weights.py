"""Token weights: their histogram, and heat maps of real samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from wmtp_ray.report.figures import dot_chart, histogram_chart, line_chart
from wmtp_ray.report.markup import figure, figures, folded, note, percent, section, table
from wmtp_ray.report.runs import TrainingRun, WeightedSample
from wmtp_ray.training.weight_report import HISTOGRAM_TOP
from wmtp_ray.value_weighting.token_classes import DECILES


def token_weights(runs: Sequence[TrainingRun], curves: str = "") -> str:
    """Of every run that weighted its tokens; `curves` (HTML) of their statistics stand first."""
    histograms = {run.name: bins for run in runs if (bins := run.weight_histogram) is not None}
    parts = [curves]
    if histograms:
        chart = histogram_chart(histograms, top=HISTOGRAM_TOP, x_label="token weight")
        parts.append(
            figure(chart) + note("All response tokens of all steps; weights above 3 in the last bin.")
        )
    parts.append(weight_places(runs))
    parts += [heat_maps(run) for run in runs if run.samples]
    return section("Token weights", *parts)


def weight_places(runs: Sequence[TrainingRun]) -> str:
    """By class of token and by tenth of the response, relative to each run's mean weight."""
    places = {run.name: run.places for run in runs if run.places is not None}
    if not places:
        return ""
    classes = {name: place.relative_by_class() for name, place in places.items()}
    tenths = [10 * tenth + 5 for tenth in range(DECILES)]
    deciles = {name: (tenths, place.relative_by_decile()) for name, place in places.items()}
    by_class = dot_chart(classes, x_label="mean weight / mean weight of all tokens", reference=1.0)
    by_decile = line_chart(deciles, x_label="place in the response, percent", y_label="relative mean weight")
    body = [
        [
            run,
            name,
            percent(place.token_shares()[name]),
            percent(place.weight_shares()[name]),
            f"{relative:.2f}",
        ]
        for run, place in places.items()
        for name, relative in place.relative_by_class().items()
    ]
    header = ["run", "class", "of the tokens", "of the weight", "relative mean weight"]
    if len(places) == 1:
        header, body = header[1:], [row[1:] for row in body]
    return (
        "<h3>Where the weight sits</h3>"
        + figures(figure(by_class, "by class of token"), figure(by_decile, "by place"))
        + table(header, body)
        + note(
            "Response tokens of held-out programs; classes are Python's, of each token's first visible character."
        )
    )


def heat_maps(run: TrainingRun) -> str:
    """The samples of one run, every token tinted by its weight."""
    legend = "".join(
        f'<span class=token style="{_tint(w)}">{w:g}</span>' for w in (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)
    )
    return (
        f"<h3>{escape(run.name)}: weights on held-out samples</h3>"
        f"<p class=note>Weight {legend}. Touch or point at a token for its numbers, which are also listed below.</p>"
        + "".join(map(_heat_map, run.samples))
    )


def _heat_map(sample: WeightedSample) -> str:
    numbers = [
        f"weight {w:.2f}, advantage {a:+.3f}, value {v:.3f}"
        for w, a, v in zip(sample.weights, sample.advantages, sample.values, strict=True)
    ]
    # -1: a touch gives it the focus, and the keyboard, which has the list, is not held up by hundreds of stops.
    tokens = "".join(
        f'<span class=token tabindex=-1 style="{_tint(w)}" data-numbers="{said}">{escape(text)}</span>'
        for text, w, said in zip(sample.tokens, sample.weights, numbers, strict=True)
    )
    listed = "\n".join(f"{said}  {text!r}" for text, said in zip(sample.tokens, numbers, strict=True))
    return (
        f"<figure><figcaption>sample {escape(sample.sample_id)}</figcaption><pre class=heat>{tokens}</pre>"
        f"{folded('numbers', listed)}</figure>"
    )


def _tint(weight: float) -> str:
    """Blue below 1, orange above, on a logarithmic scale that is full at 0.1 and 3."""
    strength = math.log(max(weight, 1e-3)) / math.log(3.0 if weight > 1 else 10.0)
    hue = "var(--more)" if strength > 0 else "var(--less)"
    return f"background:color-mix(in srgb,{hue} {min(abs(strength), 1.0) * 75:.0f}%,transparent)"
