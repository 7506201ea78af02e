"""The frame of every report: one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files


def page(title: str, sections: Iterable[str]) -> str:
    """The whole file; `sections` are HTML, empty ones are left out."""
    style = files("wmtp_ray.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>\n<body><main><h1>{escape(title)}</h1>\n"
        + "\n".join(filter(None, sections))
        + "</main></body></html>\n"
    )
