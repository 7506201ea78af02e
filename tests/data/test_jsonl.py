"""The JSONL reader: every line becomes a solution or a reject with its reason; nothing else happens."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from wmtp_ray.data.records import Problem, Reject
from wmtp_ray.data.sources.jsonl import JsonlSource
from wmtp_ray.data.writer import write_store
from wmtp_ray.errors import DataError

GOOD = {"instruction": "Do", "input": "", "output": "x = 1", "problem_id": "p", "is_correct": True}


def line(**changes: object) -> bytes:
    return json.dumps(
        {key: value for key, value in {**GOOD, **changes}.items() if value != "REMOVE"}
    ).encode()


def read(path: Path, **options: int) -> list[Problem | Reject]:
    source = JsonlSource((str(path),), **options)  # type: ignore[arg-type]
    return [item for partition in source.partitions() for item in source.problems(partition)]


def test_problems_are_gathered_from_anywhere(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + b"\n".join(
            [
                line(output="é", difficulty=3),
                line(problem_id=7, output="b"),
                b"  ",
                line(output="c", is_correct=False, difficulty=None),
                line(output="d", instruction="Other"),
            ]
        )
    )
    reject, first, second = read(path)
    assert isinstance(first, Problem) and isinstance(second, Problem)
    assert (first.problem_id, first.difficulty, second.problem_id) == ("p", 3, "7")
    assert [(s.code, s.is_correct, s.provenance) for s in first.solutions] == [
        ("é", True, "a.jsonl:1"),
        ("c", False, "a.jsonl:4"),
    ]
    assert reject == Reject(
        "a.jsonl:5", "other_statement", "instruction, input or split differ from a.jsonl:1"
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"a": ', "bad_json"),
        (b"[1]", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"1" * 5000, "bad_json"),
        (b"\x00", "bad_json"),
        (b'{"output": "\xff"}', "not_utf8"),
        (line(output="REMOVE"), "missing_field"),
        (line(problem_id=None), "missing_field"),
        (line(is_correct="true"), "wrong_type"),
        (line(is_correct=1), "wrong_type"),
        (line(problem_id=True), "wrong_type"),
        (line(output=["x"]), "wrong_type"),
        (line(difficulty="hard"), "wrong_type"),
        (line(difficulty=10**12), "wrong_type"),
        (line(split="dev"), "wrong_type"),
        (line(output="x" * 3000), "line_too_long"),
    ],
)
def test_bad_lines_are_rejects(tmp_path: Path, bad: bytes, reason: str):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([line(), bad, line(output="y")]))
    limit = 200_000 if bad.startswith(b"[") or bad.startswith(b"1") else 2000
    reject, problem = read(path, max_line_bytes=limit)
    assert isinstance(reject, Reject) and isinstance(problem, Problem)
    assert (reject.place, reject.reason) == ("a.jsonl:2", reason)
    assert [s.code for s in problem.solutions] == ["x = 1", "y"]


@pytest.mark.parametrize(
    "bad", [{"output": ""}, {"output": "a\0"}, {"output": "\ud800"}, {"instruction": "\ud800"}]
)
def test_bad_texts_are_rejected_by_the_store(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast, bad: dict[str, str]
):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([line(), line(**{"problem_id": "q", **bad})]))
    counts = write_store(
        tmp_path / "s", read(path), byte_tokenizer, 400, source="x", tokenizer_fingerprint="bytes"
    )
    assert (counts.rows_in, counts.rows_kept, sum(counts.rejected.values())) == (2, 1, 1)


def test_missing_empty_and_broken_files(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.jsonl.*source\.paths"):
        JsonlSource((str(tmp_path / "none.jsonl"),)).partitions()
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        JsonlSource((str(tmp_path / "empty.jsonl"),)).partitions()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line() * 100)[:-9])
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path / "a.jsonl.gz")


def test_compressed_equals_plain(tmp_path: Path):
    content = b"\n".join(line(output=f"x{i}", problem_id=f"p{i % 3}") for i in range(20))
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))

    def programs(name: str) -> list[list[str]]:
        return [[s.code for s in p.solutions] for p in read(tmp_path / name) if isinstance(p, Problem)]

    assert programs("a.jsonl") == programs("b.jsonl.gz")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
lines = st.one_of(
    st.binary(max_size=40),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({}, optional=dict.fromkeys([*GOOD, "difficulty", "split"], json_values)).map(
        lambda row: json.dumps({**GOOD, **row}).encode()
    ),
    st.builds(lambda cut: line()[:cut], st.integers(0, 90)),
)


@given(st.lists(lines, max_size=12))
@settings(max_examples=30)
def test_every_line_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, content: list[bytes]):
    check_accounts(tmp_path_factory, content)


DAMAGE = [b"", b"\xff", b"\0", b"\n", b'"', b"\\", b"\r\n", b"{", b"1e999"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with some bytes changed, left out or doubled."""
    good = [
        line(output=f"x = {i}", problem_id=f"p{i % 3}", difficulty=i) for i in range(draw(st.integers(1, 6)))
    ]
    content = bytearray(b"\n".join(good))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(0, 20))
        content[at : at + length] = draw(st.sampled_from(DAMAGE))
    return bytes(content)


@pytest.mark.slow
@given(st.one_of(st.lists(lines, max_size=30), damaged().map(lambda content: [content])))
@settings(max_examples=3000)
def test_fuzz_every_line_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, content: list[bytes]):
    check_accounts(tmp_path_factory, content)


def check_accounts(tmp_path_factory: pytest.TempPathFactory, content: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.jsonl"
    path.write_bytes(b"\n".join([line(), *content]))
    rows = sum(1 for text in path.read_bytes().split(b"\n") if text.strip())
    items = read(path)
    solutions = sum(len(item.solutions) for item in items if isinstance(item, Problem))
    assert solutions + sum(isinstance(item, Reject) for item in items) == rows
