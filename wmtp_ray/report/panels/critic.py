"""What a critic's held-out pairs say about it."""

from __future__ import annotations

from collections.abc import Sequence

from wmtp_ray.evaluation.critic_diagnostics import CriticDiagnostics, Share
from wmtp_ray.report.figures import calibration_chart, interval_chart
from wmtp_ray.report.markup import figure, figures, interval, note, section, table


def critic_diagnostics(found: CriticDiagnostics | None) -> str:
    """Accuracy by kind of pair, calibration, localisation."""
    if found is None:
        return ""
    located = found.located
    body = [
        ["pairs ranked right", interval(found.whole.right), "chance: 50%"],
        ["pairs of equal values", str(found.ties), f"of {found.whole.pairs}; they count as not right"],
    ]
    if located:
        body.append(
            [
                "−δ finds the mutation (AUROC)",
                f"{located.auroc:.2f} [{located.low:.2f}, {located.high:.2f}]",
                f"chance: 0.50; place alone: {located.by_place:.2f}; {located.programs} programs",
            ]
        )
    return section(
        "Critic on held-out pairs",
        table(["", "with 95% interval", ""], body),
        figures(
            _shares("by length: the correct program is …", found.by_length),
            _shares("by difficulty", found.by_difficulty),
            _calibration(found),
        ),
        note(
            f"After step {found.step}. Accuracy: share of pairs whose correct side has the strictly greater mean "
            "value, with Wilson's interval. Calibration: the probability σ(v̄ − v̄′) that the critic gives to the side "
            "it prefers, in equally filled bins, against the share of pairs where that side is the correct one. "
            "Localisation: chance that a mutated token's value falls more than another token's of its program."
        ),
    )


def _shares(caption: str, shares: Sequence[Share]) -> str:
    rows = {f"{share.name} ({share.pairs})": {"": share.right} for share in shares}
    return figure(interval_chart(rows, x_label="share ranked right", reference=0.5), caption) if rows else ""


def _calibration(found: CriticDiagnostics) -> str:
    if not found.calibration:
        return ""
    chart = calibration_chart(
        [c.predicted for c in found.calibration],
        [c.observed.right for c in found.calibration],
        x_label="predicted share ranked right",
        y_label="observed",
    )
    return figure(chart, "calibration")
