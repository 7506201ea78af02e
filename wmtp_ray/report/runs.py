"""What a report shows of training runs, read from their directories."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmtp_ray.errors import StorageError
from wmtp_ray.evaluation.critic_diagnostics import CriticDiagnostics
from wmtp_ray.storage.runs import RunDirectory, run_path
from wmtp_ray.storage.timeline import Span, read_timeline
from wmtp_ray.training.metrics_file import read_metrics
from wmtp_ray.value_weighting.places import WeightPlaces

DIAGNOSTICS = "critic_diagnostics.json"


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
    """What a run wrote; parts that it did not write are empty."""

    name: str
    records: tuple[dict[str, Any], ...]
    """Of `metrics.jsonl`, in order."""
    samples: tuple[WeightedSample, ...] = ()
    places: WeightPlaces | None = None
    """Where the weights of held-out programs sit."""
    diagnostics: CriticDiagnostics | None = None
    timeline: tuple[Span, ...] = ()
    attempts: tuple[dict[str, Any], ...] = ()
    """Of `environment.json`: each start of the run and what it ran on."""
    notices: str = ""
    config_yaml: str = ""
    result: dict[str, Any] | None = None

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """(steps, values) of the records that have a number, not NaN, at `key`."""
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
    run = RunDirectory(run_path(root, job, rest))
    if not run.metrics.is_file():
        raise StorageError(
            f"report.runs names {name}, but {run.metrics} does not exist; train it first or leave it out"
        )
    return training_run(run)


def training_run(run: RunDirectory) -> TrainingRun:
    """What the directory of a run holds."""

    def text(name: str) -> str:
        path = run.path / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    weights = json.loads(text("weights_sample.json") or "{}")
    diagnostics = text(DIAGNOSTICS)
    return TrainingRun(
        name=run.path.name,
        records=tuple(read_metrics(run.metrics)),
        samples=tuple(_sample(sample) for sample in weights.get("samples", [])),
        places=WeightPlaces.from_json(weights["places"]) if weights.get("places") else None,
        diagnostics=CriticDiagnostics.from_json(diagnostics) if diagnostics else None,
        timeline=tuple(read_timeline(run.path)),
        attempts=tuple(json.loads(text("environment.json") or "[]")),
        notices=text("notices.log"),
        config_yaml=text("config.yaml"),
        result=run.result,
    )


def _sample(content: dict[str, Any]) -> WeightedSample:
    return WeightedSample(
        sample_id=str(content["sample_id"]),
        tokens=tuple(content["tokens"]),
        values=tuple(content["values"]),
        advantages=tuple(content["advantages"]),
        weights=tuple(content["weights"]),
    )
