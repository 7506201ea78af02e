"""The base of every configuration model: frozen, finite numbers, and no key that it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Of a run, a store, an arm: part of a path."""


class Section(BaseModel):
    """One section of a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, content: Any) -> Any:
        """YAML's `yes`, `on` and `true` would pass for 1."""
        for name, field in cls.model_fields.items() if isinstance(content, dict) else ():
            if isinstance(content.get(name), bool) and not _takes_bool(field.annotation):
                raise ValueError(
                    f"{name} = {str(content[name]).lower()} is neither true nor false; give its value"
                )
        return content


def distinct(what: str, names: Sequence[str]) -> None:
    """`ValueError` where two of `names` are one."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what}: {twice[0]!r} is given twice; leave one out or rename it")


def _takes_bool(annotation: Any) -> bool:
    return annotation is bool or any(map(_takes_bool, get_args(annotation)))
