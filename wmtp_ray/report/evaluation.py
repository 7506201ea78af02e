"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wmtp_ray.evaluation.benchmarks import Benchmark
from wmtp_ray.evaluation.rerank import Reranked
from wmtp_ray.evaluation.samples import JudgedSample
from wmtp_ray.evaluation.table import ResultTable
from wmtp_ray.report.page import page
from wmtp_ray.report.panels.curves import compared_curves
from wmtp_ray.report.panels.resources import evaluation_resources
from wmtp_ray.report.panels.results import best_of_n, differences, results
from wmtp_ray.report.panels.samples import browsable_samples
from wmtp_ray.report.panels.settings import settings
from wmtp_ray.report.panels.weights import token_weights
from wmtp_ray.report.runs import TrainingRun
from wmtp_ray.storage.timeline import Span


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that the report of an evaluation shows."""

    title: str
    table: ResultTable
    benchmarks: Sequence[Benchmark]
    samples: Sequence[JudgedSample]
    runs: Sequence[TrainingRun]
    facts: dict[str, str]
    """What the numbers depend on: seed, decoding, commit, fingerprints."""
    config_yaml: str
    reranked: Sequence[Reranked] = ()
    timeline: Sequence[Span] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    """Each start of the run and what it ran on."""

    def html(self) -> str:
        """The page."""
        return page(
            self.title,
            (
                results(self.table, self.facts),
                differences(self.table),
                best_of_n(self.reranked),
                compared_curves(self.runs),
                token_weights(self.runs),
                evaluation_resources(self.timeline, self.attempts),
                browsable_samples(self.benchmarks, self.samples),
                settings(self.facts, self.config_yaml),
            ),
        )
