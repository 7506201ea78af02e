"""Figures as inline SVG that follow the page's light or dark colours.

matplotlib draws with marker colours, which are then replaced by CSS variables of the page: `--s1` … `--s6`
for the series, `--grid` for grid lines, `currentColor` for text and axes.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wmtp_ray.evaluation.statistics import Estimate

SERIES = 6
LONG_CURVE = 75
NOISY = 5.0
"""How often a curve runs through its own range."""
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
_ONE_AT_A_TIME = threading.Lock()
"""Matplotlib's settings belong to the whole process."""
Curve = tuple[Sequence[float], Sequence[float]]


def color(series: int) -> str:
    """The marker colour of one series, by number from 0."""
    return f"#f0f00{series % SERIES + 1}"


def line_chart(
    curves: Mapping[str, Curve],
    *,
    x_label: str,
    y_label: str,
    points: Mapping[str, Curve] | None = None,
    name_points: bool = True,
) -> str:
    """Curves by name, and points of the same names on top (validation on training), named apart or not. A curve that
    mostly goes up and down is drawn faintly, with its moving mean (`moving_mean`) in full."""

    def draw(axes: Axes) -> None:
        names = [*curves, *(name for name in points or {} if name not in curves)]
        for number, name in enumerate(names):
            if name in curves:
                x, y = curves[name]
                smooth = moving_mean(y)
                if smooth is not None:
                    axes.plot(x, y, color=color(number), linewidth=0.8, alpha=0.3)
                axes.plot(x, y if smooth is None else smooth, color=color(number), linewidth=1.6, label=name)
            if points and name in points:
                label = name if name not in curves else f"{name}, held out" if name_points else None
                axes.plot(
                    *points[name], "o--", color=color(number), markersize=4.5, linewidth=0.9, label=label
                )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(axes)

    return _svg(draw, f"{y_label} by {x_label}")


def moving_mean(values: Sequence[float]) -> np.ndarray | None:
    """Means over a 15th of the values around each, of fewer at both ends; None where there are too few values, or they
    do not go up and down enough to hide where they lead. NaN is left out."""
    y_N = np.asarray(values, dtype=float)
    known_N = np.isfinite(y_N)
    shown = y_N[known_N]
    if len(y_N) < LONG_CURVE or not shown.size or np.abs(np.diff(shown)).sum() < NOISY * np.ptp(shown):
        return None
    window = np.ones(len(y_N) // 15)
    sums, counts = (np.convolve(a, window, "same") for a in (np.where(known_N, y_N, 0.0), known_N * 1.0))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def interval_chart(
    estimates: Mapping[str, Mapping[str, Estimate]], *, x_label: str, reference: float | None = None
) -> str:
    """One group of rows per outer name, in it one dot with its interval per inner name ("" leaves one row per group);
    a line at `reference`."""
    inner = list(dict.fromkeys(name for group in estimates.values() for name in group))

    def draw(axes: Axes) -> None:
        ticks = []
        row = 0.0
        for group, members in estimates.items():
            for name, e in members.items():
                series = color(inner.index(name))
                axes.plot([e.low, e.high], [row, row], color=series, linewidth=2)
                axes.plot([e.mean], [row], "o", color=series, markersize=6)
                ticks.append((row, f"{name} · {group}" if name else group))
                row += 1
            row += 0.6 if len(inner) > 1 else 0.0
        if reference is not None:
            axes.axvline(reference, color=_INK, linewidth=0.8, linestyle=":")
        axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks])
        axes.set_ylim(row - 0.5, -0.5)
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


def dot_chart(values: Mapping[str, Mapping[str, float]], *, x_label: str, reference: float) -> str:
    """One row per inner name, in it one dot per outer name; a line at `reference`."""
    rows = list(dict.fromkeys(name for series in values.values() for name in series))

    def draw(axes: Axes) -> None:
        axes.axvline(reference, color=_INK, linewidth=0.8, linestyle=":")
        for number, (name, series) in enumerate(values.items()):
            places = [rows.index(row) for row in series]
            axes.plot(list(series.values()), places, "o", color=color(number), markersize=6, label=name)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(x_label)
        _legend(axes)

    return _svg(draw, x_label, height=1.1 + 0.27 * len(rows))


def calibration_chart(
    predicted: Sequence[float], observed: Sequence[Estimate], *, x_label: str, y_label: str
) -> str:
    """Observed shares with their intervals over predicted ones of at least ½, and the diagonal on which both agree."""

    def draw(axes: Axes) -> None:
        axes.plot([0.5, 1], [0.5, 1], color=_INK, linewidth=0.8, linestyle=":", label="predicted = observed")
        for x, e in zip(predicted, observed, strict=True):
            axes.plot([x, x], [e.low, e.high], color=color(0), linewidth=2)
        axes.plot(predicted, [e.mean for e in observed], "o", color=color(0), markersize=6, label="observed")
        axes.set_xlim(0.48, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(axes)

    return _svg(draw, f"{y_label} by {x_label}")


def lanes_chart(lanes: Mapping[str, Sequence[float]], edges: Sequence[float], *, x_label: str) -> str:
    """One row per name: how busy it was in each bin between `edges`, 1 (or the row's peak, if higher) fills the row."""

    def draw(axes: Axes) -> None:
        for row, (_, busy) in enumerate(lanes.items()):
            filled = np.asarray(busy) / max(1.0, float(np.max(busy))) * 0.8
            axes.stairs(filled - row, edges, baseline=-row, fill=True, color=color(row), alpha=0.85)
        axes.set_yticks([0.4 - row for row in range(len(lanes))], list(lanes))
        axes.set_xlim(edges[0], edges[-1])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)

    return _svg(draw, f"Activities over {x_label}", height=0.7 + 0.36 * len(lanes))


def _legend(axes: Axes) -> None:
    """Above the axes, where it covers no curve; none where a single curve needs no name."""
    figure = axes.get_figure()
    assert figure is not None
    if any(axes.get_legend_handles_labels()[1]):
        figure.legend(loc="outside upper left", ncols=2)


def _svg(draw: Callable[[Axes], None], title: str, height: float = 3.1) -> str:
    with _ONE_AT_A_TIME, matplotlib.rc_context(_STYLE):
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
