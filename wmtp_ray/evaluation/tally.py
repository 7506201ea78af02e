"""What became of the samples of each model, in words: every sample once, by its verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import get_args

from wmtp_ray.evaluation.samples import JudgedSample
from wmtp_ray.evaluation.verify import Status


def tally(samples: Iterable[JudgedSample]) -> list[str]:
    """One line for each model and temperature, in the order in which they first come."""
    groups: dict[str, list[JudgedSample]] = defaultdict(list)
    for sample in samples:
        groups[f"{sample.model} T={sample.temperature:g}"].append(sample)
    return [f"{name}: {_line(group)}" for name, group in groups.items()]


def _line(samples: list[JudgedSample]) -> str:
    statuses = Counter(sample.status for sample in samples)
    parts = " + ".join(f"{statuses[status]:,} {status}" for status in get_args(Status) if statuses[status])
    problems = len({sample.problem_id for sample in samples})
    solved = len({sample.problem_id for sample in samples if sample.status == "passed"})
    cut = sum(sample.cut for sample in samples)
    return f"{len(samples):,} samples = {parts}; {cut:,} cut; {solved:,} of {problems:,} problems solved"
