"""Pieces of a page. Text that comes in as `str` is escaped, except where an argument is said to be HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from wmtp_ray.evaluation.statistics import Estimate


def section(title: str, *parts: str) -> str:
    """A heading over `parts` (HTML); nothing where all of them are empty."""
    body = "".join(parts)
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def table(header: Iterable[str], body: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where the screen is too narrow."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def figure(svg: str, caption: str = "") -> str:
    """A drawing of `wmtp_ray.report.figures` (HTML) with its caption."""
    return f"<figure>{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}{svg}</figure>"


def figures(*drawn: str) -> str:
    """Figures (HTML) side by side where there is room; nothing where all are empty."""
    return f"<div class=figures>{''.join(drawn)}</div>" if any(drawn) else ""


def note(text: str) -> str:
    """A small paragraph."""
    return f"<p class=note>{escape(text)}</p>"


def warning(text: str) -> str:
    """A paragraph that is not to be overlooked."""
    return f"<p class=warning>{escape(text)}</p>"


def facts(named: Mapping[str, str]) -> str:
    """Names and what they are."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in named.items()) + "</dl>"


def folded(summary: str, text: str) -> str:
    """Long text under a line that unfolds it."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def percent(share: float) -> str:
    """0.125 → 12.5%."""
    return f"{100 * share:.1f}%"


def interval(estimate: Estimate, signed: bool = False) -> str:
    """In percent: mean [low, high]."""
    sign = "+" if signed else ""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"
