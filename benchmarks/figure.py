"""A figure: one measured number beside what it is compared with and what was wanted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from wmtp_ray.errors import WMTPError

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_TARGET = re.compile(
    rf"(?P<relation><=|>=|==|<|>)\s*(?P<limit>{_NUMBER})|(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})"
)


class NotMeasured(WMTPError):
    """This machine lacks what a benchmark needs (a GPU, the test data); the message says what to do."""


@dataclass(frozen=True)
class Figure:
    """One line of `python -m benchmarks`.

    `counterpart` says what the value was compared with in the same run, with its own number. `target` is like
    `"<= 3"`, `">= 0.95"`, `"== 0"`, `"< 1"`, `"> 1"`, or a range `"0.7..0.9"` with both ends inside, or
    None where the number is only reported; whether it holds is computed, never claimed.

    >>> Figure("gae_vs_lfilter", 2.1, "x time", counterpart="lfilter 0.4 ms", target="<= 3").holds
    True
    """

    name: str
    value: float
    unit: str
    counterpart: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not _TARGET.fullmatch(self.target):
            raise ValueError(f"figure {self.name}: target {self.target!r} is not like '<= 3' or '0.7..0.9'")

    @property
    def holds(self) -> bool | None:
        """Whether the value meets the target (a NaN never does); None without a target."""
        if self.target is None:
            return None
        match = _TARGET.fullmatch(self.target)
        assert match is not None, "checked on construction"
        if match["relation"] is None:
            return float(match["low"]) <= self.value <= float(match["high"])
        limit = float(match["limit"])
        return {
            "<=": self.value <= limit,
            ">=": self.value >= limit,
            "==": self.value == limit,
            "<": self.value < limit,
            ">": self.value > limit,
        }[match["relation"]]

    def to_json(self) -> str:
        """One line of JSON; the value rounded to 6 significant digits, null if it is not finite."""
        rounded = float(f"{self.value:.6g}")
        finite = rounded - rounded == 0.0
        line = {
            "name": self.name,
            "value": rounded if finite else None,
            "unit": self.unit,
            "counterpart": self.counterpart,
            "target": self.target,
            "holds": self.holds,
        }
        return json.dumps(line, ensure_ascii=False)


@dataclass(frozen=True)
class ModuleRun:
    """What one module gave: its figures, and why it stopped early, if it did."""

    name: str
    figures: tuple[Figure, ...]
    seconds: float
    not_measured: str | None = None
    failure: str | None = None
