"""Verified samples as rows of a store: programs written by hand, judged by the real sandbox, kept with their origin."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import PreTrainedTokenizerFast

from tests.data.stores import build_store, synthetic_problems
from wmtp_ray.config.collect import CollectJobConfig
from wmtp_ray.config.load import dump_yaml, validate
from wmtp_ray.config.prepare import SamplesSourceConfig
from wmtp_ray.data.provenance import SampleProvenance
from wmtp_ray.data.records import Case, Problem, Reject, Solution, Tests
from wmtp_ray.data.sources import all_problems, build_source, source_identity
from wmtp_ray.data.sources.problem_lines import ProblemLinesSource
from wmtp_ray.data.sources.stored import PROBLEMS_AT_ONCE, StoreSource
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.evaluation.completion import take_response
from wmtp_ray.evaluation.samples import JudgedSample, SampleLog
from wmtp_ray.evaluation.sampling import request_seed
from wmtp_ray.evaluation.tally import tally
from wmtp_ray.evaluation.verify import verify

TESTS = Tests("call", cases=(Case("f(1)", "2"), Case("f(2)", "3")))
OWN = (
    Solution("def f(x):\n    return 1 + x\n", True, provenance="by hand", mutated_span=(4, 5)),
    Solution("def f(x):\n    return 2\n", False, provenance="by hand"),
)
PROBLEMS = [
    Problem("p0", "Add one.", OWN, split="train", difficulty=3, cf_rating=900, tags=("sums",), tests=TESTS),
    Problem("p1", "Add one again.", (), split="valid", tests=TESTS),
    Problem("p2", "Held out.", OWN, split="test", tests=TESTS),
]
TEXTS = {
    ("p0", 0): ("def f(x):\n    return x + 1\n", False),
    ("p0", 1): ("def f(x):\n    return x - 1\n", False),
    ("p0", 2): ("Sure:\n```python\ndef f(x):\n    return -(-x - 1)\n```\nThis function", True),
    ("p0", 3): ("def f(x):\n    return x + 1\n", False),
    ("p0", 4): ("def f(x):\n    return 1 + x\n", False),
    ("p1", 0): ("The function adds one.", False),
    ("p1", 1): ("def f(x):\n    return x +", True),
    ("p1", 2): ("def f(x):\n    return y\n", False),
    ("p1", 3): ("```\ndef f(x):\n    return x + 1\n```", False),
    ("p1", 4): ("def f(x):\n    return 1 + x\n", False),
}
"""Text and cut of each sample: two copies, one of a row that was there, prose, a cut program, an answer cut after its
program; the last of p1 meets a fault of the sandbox."""


def run_of(root: Path, **store: Any) -> Path:
    """The directory of a collection that has sampled `TEXTS`; the verdicts are the sandbox's own."""
    content = {
        "name": "more",
        "storage": {"root": str(root)},
        "problems": {"store": "few"},
        "models": [{"name": "base", "model": "a-model"}],
        "decoding": {"samples_per_problem": 5, "temperature": 0.8, "top_p": 0.9},
        "store": {"tokenizer": "bytes", "max_length": 400} | store,
        "seed": 7,
    }
    run = root / "runs" / "collect-more"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_yaml(validate(CollectJobConfig, content, "a test")))
    (run / "models.json").write_text(json.dumps({"base": "4f2a"}))
    log = SampleLog(run / "samples.jsonl")
    for (problem, number), (text, cut) in reversed(TEXTS.items()):  # as they came, which is any order
        verdict = verify(take_response(text), TESTS)
        status = "sandbox_fault" if (problem, number) == ("p1", 4) else verdict.status
        log.append(
            JudgedSample(
                "base", 0.8, "problems", problem, number, text, len(text), cut,
                status, verdict.detail, verdict.cases_passed, verdict.cases, 0.1,
            )
        )  # fmt: skip
    log.close()
    return run


def section(run: Path, **fields: Any) -> SamplesSourceConfig:
    return SamplesSourceConfig(kind="samples", run=run, **fields)


def collected(run: Path, tokenizer: PreTrainedTokenizerFast, path: Path, **fields: Any) -> SolutionStore:
    """The store that the samples make."""
    items = all_problems(build_source(section(run, **fields)))
    write_store(path, items, tokenizer, 400, source="samples", tokenizer_fingerprint="bytes")
    return SolutionStore.open(path)


def labels(store: SolutionStore, problem_id: str) -> list[tuple[str, bool]]:
    rows = store.read(range(len(store)))
    return [(row.output, row.is_correct) for row in rows if row.problem_id == problem_id]


def test_verified_samples_become_rows_beside_those_that_were_there(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    old = build_store(tmp_path / "stores" / "few", PROBLEMS, byte_tokenizer)
    run = run_of(tmp_path)
    new = collected(run, byte_tokenizer, tmp_path / "stores" / "more")
    counts = new.manifest.facts["counts"]

    assert labels(new, "p0") == [
        *[(solution.code, solution.is_correct) for solution in OWN],
        ("def f(x):\n    return x + 1\n", True),
        ("def f(x):\n    return x - 1\n", False),
        ("def f(x):\n    return -(-x - 1)\n", True),
    ]
    assert labels(new, "p1") == [
        ("def f(x):\n    return y\n", False),
        ("def f(x):\n    return x + 1\n", True),
    ]
    assert counts["rejected"] == {"cut": 1, "duplicate": 2, "sandbox_fault": 1, "syntax_error": 1}
    assert counts["rows_in"] == len(old) + len(TEXTS) == len(new) + 5

    assert [(p.split, p.difficulty, p.tags, p.tests) for s in ("train", "valid", "test") for p in new.problems(s)] == [
        (p.split, p.difficulty, p.tags, TESTS) for p in PROBLEMS
    ]  # fmt: skip
    assert new.index.cf_rating.tolist() == [900, 0, 0]
    rows = new.read(range(len(new)))
    assert [row.mutated_span for row in rows[:2]] == [(4, 5), None]
    origins = [SampleProvenance.from_text(row.provenance) for row in rows]
    assert [o is None for o in origins] == [True, True, *[False] * 5, True, True]
    assert origins[3] == SampleProvenance(
        run="collect-more",
        model="base",
        fingerprint="4f2a",
        temperature=0.8,
        top_p=0.9,
        seed=request_seed(7, "problems", "p0", 1),
        sample=1,
        verdict="wrong_answer",
        cases_passed=0,
        cases=2,
    )
    for row, origin in zip(rows, origins, strict=True):
        assert origin is None or (origin.verdict == "passed") == row.is_correct
    assert old.fingerprint == SolutionStore.open(old.path).fingerprint != new.fingerprint
    assert tally(JudgedSample(**json.loads(line)) for line in (run / "samples.jsonl").open()) == [
        "base T=0.8: 10 samples = 5 passed + 1 wrong_answer + 1 error + 2 syntax_error + 1 sandbox_fault; 2 cut; "
        "2 of 2 problems solved"
    ]


def test_verdicts_that_label_nothing_and_own_solutions_can_be_left_out(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    build_store(tmp_path / "stores" / "few", PROBLEMS, byte_tokenizer)
    wanted = {"incorrect": ("wrong_answer", "syntax_error"), "own_solutions": False}
    new = collected(run_of(tmp_path), byte_tokenizer, tmp_path / "stores" / "more", **wanted)
    counts = new.manifest.facts["counts"]
    assert counts["rejected"] == {"cut": 1, "duplicate": 1, "error": 1, "own_solution": 4, "sandbox_fault": 1}
    assert labels(new, "p1")[0] == ("The function adds one.", False)
    held_out = {p.problem_id: p.tests for split in ("valid", "test") for p in new.problems(split)}
    assert not labels(new, "p2") and held_out["p2"] == TESTS, "a held-out problem stays, to evaluate on"


def test_a_manifest_tells_other_problems_and_other_samples_apart(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    few = tmp_path / "stores" / "few"
    build_store(few, PROBLEMS, byte_tokenizer)
    run = run_of(tmp_path)
    first = source_identity(section(run))
    assert first["run"] == "collect-more" and str(tmp_path) not in json.dumps(first)
    few.rename(tmp_path / "stores" / "aside")
    build_store(few, [replace(PROBLEMS[0], instruction="Add 1."), *PROBLEMS[1:]], byte_tokenizer)
    second = source_identity(section(run))
    assert first["problems"] != second["problems"]
    with (run / "samples.jsonl").open("a") as file:
        file.write("\n")
    assert source_identity(section(run))["files"] != second["files"]
    with pytest.raises(StorageError, match=r"holds no samples of jobs/collect\.py"):
        build_source(section(tmp_path / "runs" / "critic-x"))


def test_a_store_of_a_store_is_that_store(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    """Text, labels, spans, provenance, tests, ratings and order survive; also where parts meet."""
    problems = synthetic_problems(2 * PROBLEMS_AT_ONCE + 3)
    store = build_store(tmp_path / "first", problems, byte_tokenizer)
    source = StoreSource(store.path)
    assert [b - a for a, b in source.partitions()] == [PROBLEMS_AT_ONCE, PROBLEMS_AT_ONCE, 3]
    again = build_store(tmp_path / "second", list(whole(all_problems(source))), byte_tokenizer)
    assert again.fingerprint == store.fingerprint


def whole(items: Iterable[Problem | Reject]) -> Iterable[Problem]:
    for item in items:
        assert isinstance(item, Problem)
        yield item


GOOD: dict[str, Any] = {
    "problem_id": "p",
    "instruction": "Add one.",
    "tests": {"kind": "call", "cases": [{"input": "f(1)", "expected": "2"}]},
}


def test_problems_with_tests_and_nothing_else_are_a_source(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    full = GOOD | {"split": "valid", "difficulty": 4, "tags": ["a"], "input": "x"}
    full |= {"problem_id": "q", "solutions": [{"code": "def f(x): ...", "is_correct": False}]}
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(full)}\n")
    first, second = all_problems(ProblemLinesSource((str(path),)))
    assert first == Problem("p", "Add one.", (), tests=Tests("call", (Case("f(1)", "2"),)))
    assert second == Problem(
        "q",
        "Add one.",
        (Solution("def f(x): ...", False, provenance="problems.jsonl:3#0"),),
        input="x",
        split="valid",
        difficulty=4,
        tags=("a",),
        tests=Tests("call", (Case("f(1)", "2"),)),
    )


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ("{", "bad_json", "Invalid JSON"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "tests"}), "missing_field", "tests"),
        (json.dumps(GOOD | {"tests": {"kind": "call"}}), "wrong_type", "no cases"),
        (json.dumps(GOOD | {"tests": {"kind": "assert", "code": "assert f("}}), "wrong_type", "does not parse"),
        (
            json.dumps(GOOD | {"tests": {"kind": "assert", "code": "def test(): assert f(1)"}}),
            "wrong_type",
            "check nothing",
        ),
        (
            json.dumps(GOOD | {"tests": {"kind": "call", "cases": [{"input": "f(1", "expected": "1"}]}}),
            "wrong_type",
            "'f(1' does not parse",
        ),
        (json.dumps(GOOD | {"tests": {"kind": "stdio", "case": []}}), "wrong_type", "tests.case"),
        (json.dumps(GOOD | {"tests": {"kind": "call", "cases": [{"input": "f()", "expected": "g()"}]}}),
         "wrong_type", "not a Python literal"),
        (json.dumps(GOOD | {"answer": 1}), "wrong_type", "answer"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_problem_is_a_reject(tmp_path: Path, line: str, reason: str, detail: str) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text(f"{line}\n")
    [found] = all_problems(ProblemLinesSource((str(path),)))
    assert isinstance(found, Reject) and (found.place, found.reason) == ("problems.jsonl:1", reason)
    assert detail in found.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems": {}}, "set exactly one"),
        ({"name": "few"}, "a store is never changed"),
        ({"decoding": {"temperature": 0, "samples_per_problem": 2}}, "2 equal samples"),
    ],
)
def test_what_cannot_be_collected_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    content = yaml.safe_load((run_of(tmp_path) / "config.yaml").read_text()) | changes
    with pytest.raises(ConfigError, match=message):
        validate(CollectJobConfig, content, "a test")
