"""A configuration as a user reads it: every key with its value, and above it what the key means."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

WIDTH = 120


def explained_yaml(config: BaseModel) -> str:
    """`dump_yaml` of the configuration with the docstrings of its models as comments; the same when it is loaded."""
    return "\n".join(_lines(config, "")) + "\n"


def _lines(section: BaseModel, indent: str) -> Iterator[str]:
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        meaning = " ".join((field.description or "").split())
        yield from textwrap.wrap(
            meaning, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        value = getattr(section, name)
        if isinstance(value, BaseModel) and type(value).model_fields:
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield textwrap.indent(_plain(name, plain[name], WIDTH - len(indent)), indent)


def _plain(name: str, value: Any, width: int) -> str:
    # None: what holds no other list or mapping on one line. Of a scalar it would put braces around the key.
    style = None if isinstance(value, list | dict) else False
    dumped = yaml.safe_dump(
        {name: value}, sort_keys=False, allow_unicode=True, default_flow_style=style, width=width
    )
    return dumped.rstrip("\n")
