"""The report of a comparison: the sentence first, then differences, arms, what each took and how it trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from wmtp_ray.evaluation.comparison import LOSS, Comparison
from wmtp_ray.evaluation.contrasts import Contrast
from wmtp_ray.evaluation.listings import listings
from wmtp_ray.report.figures import dot_chart, interval_chart
from wmtp_ray.report.markup import figure, figures, note, section, table
from wmtp_ray.report.page import page
from wmtp_ray.report.panels.curves import arm_curves
from wmtp_ray.report.panels.settings import settings
from wmtp_ray.report.runs import TrainingRun


def comparison_report(
    comparison: Comparison, arms: Mapping[str, Sequence[TrainingRun]], config_yaml: str
) -> str:
    """The page. `arms`: the run of each seed, by arm."""
    first, *others = comparison.sentences
    contrasts = (comparison.primary, *comparison.secondary)
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in others)
    return page(
        f"Comparison: {comparison.name}",
        (
            section("What came out", f"<p><strong>{escape(first)}</strong></p>", f"<ul>{listed}</ul>"),
            section("Differences", _charts(contrasts, comparison.seeds)),
            *(
                section(
                    listing.title,
                    table(listing.header, listing.rows),
                    note(listing.note) if listing.note else "",
                )
                for listing in listings(comparison)
            ),
            arm_curves(arms),
            settings(dict(comparison.facts), config_yaml),
        ),
    )


def _charts(contrasts: tuple[Contrast, ...], seeds: tuple[int, ...]) -> str:
    names = {f"{c.treated} − {c.reference}": c for c in contrasts}
    intervals = interval_chart(
        {name: {"": c.estimate} for name, c in names.items()},
        x_label="nats per token",
        reference=0.0,
    )
    by_seed = dot_chart(
        {f"seed {seed}": {name: c.by_seed[i] for name, c in names.items()} for i, seed in enumerate(seeds)},
        x_label="nats per token",
        reference=0.0,
    )
    return figures(
        figure(intervals, f"{LOSS}, 95% over problems and seeds; left of 0 the first of the two is better"),
        figure(by_seed, f"{LOSS}, seed by seed"),
    )
