"""The store gives back what was put in, refuses what was changed, and counts what it leaves out."""

from __future__ import annotations

import json
import pickle
import resource
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from tests.data.stores import build_store, synthetic_problems
from wmtp_ray.data.folds import problem_folds
from wmtp_ray.data.prompt import tokenize_sample
from wmtp_ray.data.records import Problem, Reject, Solution
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import StoreWriter, write_store
from wmtp_ray.errors import DataError, StorageError


def test_rows_come_back(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    problems = synthetic_problems(40)
    store = build_store(tmp_path / "s", problems, byte_tokenizer)
    expected = [(p, s) for p in problems for s in p.solutions]
    assert len(store) == len(expected)
    order = [5, 3, 5, len(store) - 1, 0]
    rows = store.read(order)
    assert [r.row for r in rows] == order
    for row in store.read(range(len(store))):
        problem, solution = expected[row.row]
        assert (row.problem_id, row.instruction, row.input) == (
            problem.problem_id,
            problem.instruction,
            problem.input,
        )
        assert (row.output, row.is_correct, row.mutated_span, row.provenance) == (
            solution.code,
            solution.is_correct,
            solution.mutated_span,
            solution.provenance,
        )


def test_index_lengths_are_those_of_tokenisation(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    store = build_store(tmp_path / "s", synthetic_problems(30), byte_tokenizer, max_length=300)
    truncated = 0
    for row in store.read(range(len(store))):
        sample = tokenize_sample(
            byte_tokenizer,
            sample_id=row.row,
            instruction=row.instruction,
            input=row.input,
            output=row.output,
            max_length=store.max_length,
        )
        truncated += sample.truncated
        assert store.index.row_tokens[row.row] == len(sample.token_ids)
        assert store.index.row_targets[row.row] == sample.num_targets
    counts = store.manifest.facts["counts"]
    assert 0 < truncated == counts["rows_truncated"]


def test_index_by_problem(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    problems = synthetic_problems(40)
    store = build_store(tmp_path / "s", problems, byte_tokenizer)
    index = store.index
    for number, problem in enumerate(problems):
        for side, label in ((index.correct, True), (index.incorrect, False)):
            rows = side.rows[side.offsets[number] : side.offsets[number + 1]]
            texts = {r.output for r in store.read(rows)}
            assert texts == {s.code for s in problem.solutions if s.is_correct is label}
            assert (side.problems[side.offsets[number] : side.offsets[number + 1]] == number).all()
    assert [(p.problem_id, p.tags, p.tests) for p in store.problems("valid")] == [
        (p.problem_id, p.tags, p.tests) for p in problems if p.split == "valid"
    ]
    with pytest.raises(DataError, match=r"rows 0\.\."):
        store.read([len(store)])


def test_fingerprint_depends_on_content_only(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    problems = synthetic_problems(10)
    a = build_store(tmp_path / "a", problems, byte_tokenizer)
    b = build_store(tmp_path / "b", problems, byte_tokenizer)
    c = build_store(tmp_path / "c", problems[::-1], byte_tokenizer)
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert pickle.loads(pickle.dumps(a)).fingerprint == a.fingerprint


@pytest.mark.parametrize("name", ["rows.arrow", "problems.arrow", "rows.parquet", "problems.parquet"])
def test_changed_file_is_refused(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast, name: str):
    store = build_store(tmp_path / "s", synthetic_problems(5), byte_tokenizer)
    content = bytearray((store.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (store.path / name).write_bytes(content)
    with pytest.raises(StorageError, match=name):
        SolutionStore.open(store.path)
    (store.path / name).write_bytes(content[:-1])
    with pytest.raises(StorageError, match=name):
        SolutionStore.open(store.path, "sizes")


def test_rejects_are_counted(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    good = Solution("return 1", True)
    items = [
        Problem(
            "p",
            "Do it",
            (
                good,
                Solution("return 1", True),
                Solution("return 2", False),
                Solution("return 3", True),
                Solution("return 3", False),
                Solution(" \n", True),
                Solution("a\0b", False),
                Solution("'\ud800'", False),
                Solution("z" * 2000, True),
                Solution("puts 1", True, language="ruby"),
            ),
        ),
        Reject("file.jsonl:7", "bad_json", "line 7"),
        Problem("q", "long " * 1000, (good,)),
        Problem("p", "Do it", (good,)),
        Problem("nul", "a\0", (good,)),
    ]
    counts = write_store(
        tmp_path / "s", items, byte_tokenizer, 400, source="x", tokenizer_fingerprint="t", max_bytes=1000
    )
    assert counts.rows_in == 14
    assert counts.rows_kept == 2
    assert counts.rejected == {
        "bad_json": 1,
        "bad_text": 3,
        "duplicate": 1,
        "empty_output": 1,
        "labelled_both_ways": 2,
        "language": 1,
        "problem_came_twice": 1,
        "prompt_too_long": 1,
        "too_large": 1,
    }
    assert "14 rows in = 2 kept + 12 rejected" in counts.line()
    lines = [json.loads(line) for line in (tmp_path / "s" / "rejects.jsonl").read_text().splitlines()]
    assert Counter(line["reason"] for line in lines) == counts.rejected
    assert [r.output for r in SolutionStore.open(tmp_path / "s").read([0, 1])] == ["return 1", "return 2"]


def test_nothing_kept_is_an_error(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(DataError, match="no row was kept"):
        write_store(tmp_path / "s", [], byte_tokenizer, 400, source="x", tokenizer_fingerprint="t")
    with pytest.raises(StorageError, match="incomplete"):
        SolutionStore.open(tmp_path / "s")


def test_interrupted_writer_leaves_no_store(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    def dies():
        yield from synthetic_problems(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "s", dies(), byte_tokenizer, 400, source="x", tokenizer_fingerprint="t")
    with pytest.raises(StorageError, match="incomplete"):
        SolutionStore.open(tmp_path / "s")
    again = build_store(tmp_path / "s", synthetic_problems(5), byte_tokenizer)
    assert again.fingerprint == build_store(tmp_path / "t", synthetic_problems(5), byte_tokenizer).fingerprint


def test_writer_deletes_nothing_of_others(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(StorageError, match=r"thesis\.txt"):
        StoreWriter(tmp_path).__enter__()
    store = build_store(tmp_path / "s", synthetic_problems(5), byte_tokenizer)
    with pytest.raises(StorageError, match="finished"):
        StoreWriter(store.path).__enter__()


def test_full_disk_is_one_error(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    """A limit on the size of files stands in for the disk: writing fails likewise, with an OSError."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"free space or set storage\.root"):
            build_store(tmp_path / "s", synthetic_problems(200), byte_tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(StorageError, match="incomplete"):
        SolutionStore.open(tmp_path / "s")


def test_unwritable_place_is_one_error(byte_tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(StorageError, match=r"storage\.root"):
        build_store(Path("/dev/null/store"), synthetic_problems(1), byte_tokenizer)


def test_near_duplicates_are_recorded_and_share_a_fold(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast
):
    statements = {"a": "word " * 10 + "one", "b": " ".join(f"w{i}" for i in range(60))}
    statements |= {f"c{i}": statements["b"] + f" {i}" for i in range(8)}
    programs = (Solution("x = 1", True), Solution("\n".join(f"v{i} = f({i})" for i in range(40)), False))
    programs += (Solution(programs[1].code + "\nprint()", False), Solution("y = 2", True))
    problems = [Problem(name, text, programs) for name, text in statements.items()]
    store = build_store(tmp_path / "s", problems, byte_tokenizer, max_length=4000)
    assert store.index.cluster.tolist() == [0] + [1] * 9
    assert len(set(problem_folds(store.index, 5)[1:].tolist())) == 1
    rows = pq.read_table(store.path / "rows.parquet")["cluster"].to_pylist()
    assert rows[:8] == [0, 1, 1, 3, 4, 5, 5, 7]
    counts = store.manifest.facts["counts"]
    assert (counts["rows_near_duplicate"], counts["problems_near_duplicate"]) == (10, 8)
