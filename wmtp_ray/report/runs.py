"""What a report shows of training runs: their metrics and the token weights of a few samples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmtp_ray.errors import StorageError
from wmtp_ray.storage.runs import run_path


@dataclass(frozen=True)
class WeightedSample:
    """Response tokens with what the critic made of them; the three number lists are as long as `tokens`."""

    sample_id: str
    tokens: tuple[str, ...]
    values: tuple[float, ...]
    advantages: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class TrainingRun:
    """The records of `metrics.jsonl` in order, and the samples of `weights_sample.json` (none where there is
    none)."""

    name: str
    records: tuple[dict[str, Any], ...]
    samples: tuple[WeightedSample, ...]

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """(steps, values) of the records that have a finite number at `key`."""
        found = [
            (r["step"], r[key])
            for r in self.records
            if isinstance(r.get(key), int | float) and r[key] == r[key]
        ]
        return [float(step) for step, _ in found], [float(value) for _, value in found]

    @property
    def weight_histogram(self) -> list[float] | None:
        """Counts in equal bins over [0, 3], summed over all steps; None for a run that logged none."""
        logged = [r["weight_histogram"] for r in self.records if r.get("weight_histogram")]
        return [sum(bins) for bins in zip(*logged, strict=True)] if logged else None


def read_training_run(root: Path, name: str) -> TrainingRun:
    """The run `<job>-<name>` under the storage root; `StorageError` if it does not exist or has no metrics."""
    job, _, rest = name.partition("-")
    directory = run_path(root, job, rest)
    metrics = directory / "metrics.jsonl"
    if not metrics.is_file():
        raise StorageError(
            f"report.runs names {name}, but {metrics} does not exist; train it first or leave it out"
        )
    lines = metrics.read_text(encoding="utf-8").split("\n")[:-1]
    samples = directory / "weights_sample.json"
    content = json.loads(samples.read_text(encoding="utf-8")) if samples.is_file() else {"samples": []}
    return TrainingRun(
        name=name,
        records=tuple(json.loads(line) for line in lines),
        samples=tuple(_sample(sample) for sample in content["samples"]),
    )


def _sample(content: dict[str, Any]) -> WeightedSample:
    return WeightedSample(
        sample_id=str(content.get("problem_id", content["sample_id"])),
        tokens=tuple(content["tokens"]),
        values=tuple(content["values"]),
        advantages=tuple(content["advantages"]),
        weights=tuple(content["weights"]),
    )
