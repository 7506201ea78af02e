"""Figures as inline SVG that follow the page's light or dark colours.

matplotlib draws with marker colours, which are then replaced by CSS variables of the page: `--s1` … `--s6`
for the series, `--grid` for grid lines, `currentColor` for text and axes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmtp_ray.evaluation.statistics import Estimate

SERIES = 6
_INK, _GRID = "#0a0b0c", "#0d0e0f"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wmtp",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.7,
    "axes.titlesize": 10.5,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
Curve = tuple[Sequence[float], Sequence[float]]


def color(series: int) -> str:
    """The marker colour of one series, by number from 0."""
    return f"#f0f00{series % SERIES + 1}"


def line_chart(
    curves: Mapping[str, Curve], *, x_label: str, y_label: str, points: Mapping[str, Curve] | None = None
) -> str:
    """Curves by name, and points of the same names on top (validation on training)."""

    def draw(axes: Axes) -> None:
        names = [*curves, *(name for name in points or {} if name not in curves)]
        for number, name in enumerate(names):
            if name in curves:
                axes.plot(*curves[name], color=color(number), linewidth=1.6, label=name)
            if points and name in points:
                label = f"{name}, held out" if name in curves else name
                axes.plot(
                    *points[name], "o--", color=color(number), markersize=4.5, linewidth=0.9, label=label
                )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(axes)

    return _svg(draw, f"{y_label} by {x_label}")


def interval_chart(estimates: Mapping[str, Mapping[str, Estimate]], *, x_label: str) -> str:
    """One group of rows per outer name, in it one dot with its interval per inner name."""
    inner = list(dict.fromkeys(name for group in estimates.values() for name in group))

    def draw(axes: Axes) -> None:
        ticks = []
        row = 0.0
        for group, members in estimates.items():
            for name, e in members.items():
                series = color(inner.index(name))
                axes.plot([e.low, e.high], [row, row], color=series, linewidth=2)
                axes.plot([e.mean], [row], "o", color=series, markersize=6)
                ticks.append((row, f"{name} · {group}"))
                row += 1
            row += 0.6
        axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks])
        axes.invert_yaxis()
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)

    rows = sum(len(members) for members in estimates.values())
    return _svg(draw, x_label, height=0.9 + 0.32 * rows)


def histogram_chart(counts: Mapping[str, Sequence[float]], *, top: float, x_label: str) -> str:
    """Shares of equal bins over [0, `top`], one outline per name."""

    def draw(axes: Axes) -> None:
        for number, (name, bins) in enumerate(counts.items()):
            edges = np.linspace(0, top, len(bins) + 1)
            shares = np.asarray(bins, dtype=float) / max(1.0, float(np.sum(bins)))
            axes.stairs(shares, edges, color=color(number), linewidth=1.6, label=name)
            axes.stairs(shares, edges, color=color(number), alpha=0.15, fill=True)
        axes.set_xlabel(x_label)
        axes.set_ylabel("share of response tokens")
        _legend(axes)

    return _svg(draw, f"Histogram of {x_label}")


def _legend(axes: Axes) -> None:
    """Above the axes, where it covers no curve."""
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(loc="outside upper left", ncols=2)


def _svg(draw: Callable[[Axes], None], title: str, height: float = 3.1) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(
            file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Title": title}
        )
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text))
    for number in range(SERIES):
        text = text.replace(color(number), f"var(--s{number + 1})")
    return (
        text.replace(_INK, "currentColor").replace(_GRID, "var(--grid)").replace("<svg", '<svg role="img"', 1)
    )
