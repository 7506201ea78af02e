"""`held_out_pairs.jsonl` of a critic's run: what it made of each held-out pair, for diagnostics and the report."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "held_out_pairs.jsonl"


@dataclass(frozen=True)
class HeldOutPair:
    """A correct and an incorrect program of one problem, in this order in each tuple."""

    rows: tuple[int, int]
    """Of the store."""
    tokens: tuple[int, int]
    """Response tokens, EOS included."""
    means: tuple[float, float]
    """v̄: mean value over the response tokens."""
    incorrect_values: tuple[float, ...]
    """Value after each response token of the incorrect program, to six digits."""

    @property
    def margin(self) -> float:
        """v̄ of the correct program − v̄ of the incorrect one."""
        return self.means[0] - self.means[1]


def as_lines(step: int, pairs: Iterable[HeldOutPair]) -> str:
    """The file's content; `step` is the optimizer step after which the pairs were scored."""
    return "".join(json.dumps({"step": step, **asdict(pair)}) + "\n" for pair in pairs)


def read_held_out_pairs(run: Path) -> tuple[int, list[HeldOutPair]]:
    """(step, pairs) of a run directory; (0, []) where the run has none."""
    path = run / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    pairs = [HeldOutPair(**{k: tuple(v) for k, v in one.items() if k != "step"}) for one in found]
    return (found[0]["step"] if found else 0), pairs
