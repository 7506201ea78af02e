"""The real data sets prepare, and what is kept of them is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerFast

from wmtp_ray.config.prepare import SourceConfig
from wmtp_ray.data.decontamination import EvaluationTexts
from wmtp_ray.data.sources import all_problems, build_source
from wmtp_ray.data.sources.humaneval import HumanEvalSource
from wmtp_ray.data.sources.mbpp import MbppSource
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store

EXPECTED = {
    "codecontests_200.parquet": (199, 191, 200, {"prompt_too_long": 1}),
    "mbpp.jsonl": (933, 0, 956, {"contaminated": 40, "nearly_held_out": 1}),
    "sanitized-mbpp.json": (414, 0, 422, {"contaminated": 13}),
    "student_programs.jsonl": (867, 1044, 3, {}),
    "condefects.jsonl.gz": (2861, 2862, 984, {"does_not_parse": 2, "duplicate": 3}),
}
"""Correct rows, incorrect rows, problems, rejected rows by reason."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("codecontests", "codecontests_200.parquet"),
        ("mbpp", "mbpp.jsonl"),
        ("mbpp", "sanitized-mbpp.json"),
        ("jsonl", "student_programs.jsonl"),
        pytest.param("jsonl", "condefects.jsonl.gz", marks=pytest.mark.slow),
    ],
)
def test_real_files_prepare(
    tmp_path: Path, real_data: Path, byte_tokenizer: PreTrainedTokenizerFast, kind: str, name: str
):
    source = build_source(
        TypeAdapter(SourceConfig).validate_python({"kind": kind, "paths": [str(real_data / name)]})
    )
    evaluation = EvaluationTexts.of(
        {
            "humaneval": all_problems(HumanEvalSource()),
            "mbpp": all_problems(MbppSource((str(real_data / "mbpp.jsonl"),), splits=("test",))),
        }
    )
    counts = write_store(
        tmp_path / "s",
        all_problems(source),
        byte_tokenizer,
        6000,
        source=name,
        tokenizer_fingerprint="bytes",
        parse_check=True,
        evaluation=evaluation,
    )
    assert counts.rows_in == counts.rows_kept + sum(counts.rejected.values())
    found = (
        counts.rows_correct,
        counts.rows_kept - counts.rows_correct,
        counts.problems_kept,
        counts.rejected,
    )
    assert found == EXPECTED[name]
    assert SolutionStore.open(tmp_path / "s").read([0])[0].output
