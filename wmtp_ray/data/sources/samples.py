"""What a run of `jobs/collect.py` sampled and judged, as labelled rows of the problems that it sampled.

The text of a row is the program that was judged, to the letter. A sample becomes no row where a length limit cut its
program, where the sandbox failed, or where its verdict is none that labels; each of these is a reject.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from wmtp_ray.config.collect import CollectJobConfig, ProblemsConfig
from wmtp_ray.config.load import validate
from wmtp_ray.config.prepare import SamplesSourceConfig
from wmtp_ray.data.provenance import SampleProvenance
from wmtp_ray.data.records import Problem, Reject, Solution, Source
from wmtp_ray.data.sources import build_source, source_identity
from wmtp_ray.data.sources.stored import StoreSource
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import StorageError
from wmtp_ray.evaluation.completion import response_is_whole, take_response
from wmtp_ray.evaluation.samples import MODELS_FILE, SAMPLES_FILE, JudgedSample, read_samples
from wmtp_ray.evaluation.sampling import request_seed


@dataclass(frozen=True)
class SamplesSource:
    """The samples of the run in the directory `run`, and all of `origin`, where its problems are from."""

    run: Path
    origin: Source
    incorrect: tuple[str, ...]
    own_solutions: bool = True

    def partitions(self) -> list[Any]:
        """Those of the problems' own source."""
        return self.origin.partitions()

    def problems(self, partition: Any) -> Iterator[Problem | Reject]:
        """Each problem with its own solutions first, then its samples by model, temperature and number."""
        drawn = _samples(self.run, samples_file(self.run).stat().st_mtime_ns)
        for item in self.origin.problems(partition):
            if isinstance(item, Reject):
                yield item
                continue
            solutions = list(item.solutions)
            if solutions and not self.own_solutions:
                yield Reject(item.problem_id, "own_solution", rows=len(solutions))
                solutions = []
            for sample, origin in drawn.get(item.problem_id, ()):
                if reason := self._unfit(sample):
                    place = f"{item.problem_id} {sample.model} T={sample.temperature:g} #{sample.sample}"
                    yield Reject(place, reason, sample.detail)
                else:
                    code = take_response(sample.text)
                    solutions.append(Solution(code, sample.status == "passed", provenance=origin.to_text()))
            yield replace(item, solutions=tuple(solutions))

    def _unfit(self, sample: JudgedSample) -> str | None:
        """Why a sample is no row. What a limit cut off says nothing about the program that it began."""
        if sample.status == "sandbox_fault":
            return "sandbox_fault"
        if sample.cut and not response_is_whole(sample.text):
            return "cut"
        return None if sample.status in ("passed", *self.incorrect) else sample.status


def samples_file(run: Path) -> Path:
    """The judged samples of the run in a directory."""
    return run / SAMPLES_FILE


def samples_source(config: SamplesSourceConfig, languages: tuple[str, ...]) -> SamplesSource:
    """The source that the section describes. `StorageError` where the run has no samples."""
    problems, root = collected_from(config.run)
    origin = problems_source(problems, root, languages)
    return SamplesSource(config.run, origin, config.incorrect, config.own_solutions)


def problems_source(
    problems: ProblemsConfig, root: Path, languages: tuple[str, ...] = ("python3",)
) -> Source:
    """Where the problems of a collection come from. `root`: the storage root."""
    if problems.source is not None:
        return build_source(problems.source, languages)
    return StoreSource(SolutionStore.named(root, str(problems.store)).path)


def problems_identity(problems: ProblemsConfig, root: Path) -> dict[str, Any]:
    """The same place as a manifest records it: changes when the problems do."""
    if problems.source is not None:
        return source_identity(problems.source)
    store = SolutionStore.named(root, str(problems.store))
    return {"store": problems.store, "fingerprint": store.fingerprint}


def collected_from(run: Path) -> tuple[ProblemsConfig, Path]:
    """The problems of the run in a directory, and its storage root, which is two folders up."""
    return _config(run).problems, run.parents[1]


def _config(run: Path) -> CollectJobConfig:
    path = run / "config.yaml"
    if not path.exists() or not (run / SAMPLES_FILE).exists():
        raise StorageError(
            f"{run} holds no samples of jobs/collect.py; name a directory runs/collect-NAME of a storage root"
        )
    return validate(CollectJobConfig, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


@lru_cache(maxsize=1)
def _samples(run: Path, changed: int) -> dict[str, list[tuple[JudgedSample, SampleProvenance]]]:
    """All samples by problem, each with its provenance. `changed`: when the file did."""
    config = _config(run)
    fingerprints: dict[str, str] = json.loads((run / MODELS_FILE).read_text())
    order = {
        (model.name, temperature): (number, place)
        for number, model in enumerate(config.models)
        for place, temperature in enumerate(config.decoding.temperatures)
    }
    samples = sorted(
        read_samples(run / SAMPLES_FILE), key=lambda s: (order[s.model, s.temperature], s.sample)
    )
    by_problem: dict[str, list[tuple[JudgedSample, SampleProvenance]]] = defaultdict(list)
    for sample in samples:
        origin = SampleProvenance(
            run=run.name,
            model=sample.model,
            fingerprint=fingerprints[sample.model],
            temperature=sample.temperature,
            top_p=config.decoding.top_p,
            seed=request_seed(config.seed, sample.benchmark, sample.problem_id, sample.sample),
            sample=sample.sample,
            verdict=sample.status,
            cases_passed=sample.cases_passed,
            cases=sample.cases,
        )
        by_problem[sample.problem_id].append((sample, origin))
    return dict(by_problem)
