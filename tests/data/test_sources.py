"""CodeContests, MBPP, HumanEval and the seed's format: what comes out of good files, and what bad ones are told."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wmtp_ray.data.records import Case, Problem, Reject, Source, Tests, expected_value
from wmtp_ray.data.sources import all_problems
from wmtp_ray.data.sources.codecontests import CodeContestsSource
from wmtp_ray.data.sources.files import found_files, split_named
from wmtp_ray.data.sources.indexed_jsonl import IndexedJsonlSource
from wmtp_ray.data.sources.jsonl import JsonlSource
from wmtp_ray.data.sources.mbpp import MbppSource
from wmtp_ray.errors import DataError


def split_up(source: Source) -> tuple[list[Problem], list[Reject]]:
    items = list(all_problems(pickle.loads(pickle.dumps(source))))
    return [i for i in items if isinstance(i, Problem)], [i for i in items if isinstance(i, Reject)]


@pytest.mark.parametrize(
    ("text", "value"),
    [("set()", set()), (" frozenset() ", frozenset()), ("inf", float("inf")), ("{1: [2]}", {1: [2]})],
)
def test_expected_values_are_literals_and_the_empty_sets(text: str, value: Any):
    found = expected_value(text)
    assert found == value and type(found) is type(value)
    with pytest.raises(DataError, match="not a Python literal"):
        expected_value("open('x')")


# CodeContests

TEXTS = pa.list_(pa.string())
TESTS = pa.struct([("input", TEXTS), ("output", TEXTS)])
PROGRAMS = pa.struct([("language", pa.list_(pa.int64())), ("solution", TEXTS)])
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("description", pa.string()),
        ("public_tests", TESTS),
        ("private_tests", TESTS),
        ("generated_tests", TESTS),
        ("difficulty", pa.int64()),
        ("solutions", PROGRAMS),
        ("incorrect_solutions", PROGRAMS),
        ("cf_rating", pa.int32()),
        ("cf_tags", TEXTS),
    ]
)
NOTHING: dict[str, list] = {"input": [], "output": []}
ROW: dict[str, Any] = {
    "name": "1_A. Sum",
    "description": "Add.",
    "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
    "private_tests": {"input": ["5 5"], "output": ["10"]},
    "generated_tests": NOTHING,
    "difficulty": 7,
    "solutions": {"language": [3, 2, 1], "solution": ["print(3)", "int main", "print 3"]},
    "incorrect_solutions": {"language": [2, 3], "solution": ["int f", "print(4)"]},
    "cf_rating": 1200,
    "cf_tags": ["math", ""],
}


def parquet(path: Path, *rows: dict[str, Any], schema: pa.Schema = SCHEMA, group: int = 100) -> Path:
    table = pa.Table.from_pylist([{**ROW, **row} for row in rows], schema=schema)
    pq.write_table(table, path, row_group_size=group)
    return path


def test_codecontests_rows(tmp_path: Path):
    path = parquet(tmp_path / "valid-00000-of-00001.parquet", {}, {"name": "2_B. Other", "cf_tags": None})
    problems, rejects = split_up(CodeContestsSource((str(path),)))
    first, second = problems
    assert (first.problem_id, first.instruction, first.input, first.split) == (
        "1_A. Sum",
        "Add.",
        "1 2",
        "valid",
    )
    assert (first.difficulty, first.cf_rating, first.tags, second.tags) == (7, 1200, ("math",), ())
    assert first.tests == Tests("stdio", (Case("1 2\n", "3\n"), Case("5 5", "10")))
    assert [(s.code, s.is_correct, s.language, s.provenance) for s in first.solutions] == [
        ("print(3)", True, "python3", "solutions[0]"),
        ("print(4)", False, "python3", "incorrect_solutions[1]"),
    ]
    assert rejects[0] == Reject("1_A. Sum", "language", "cpp 2, python2 1", rows=3)
    more, none = split_up(CodeContestsSource((str(path),), languages=("python3", "cpp", "python2")))
    assert [len(p.solutions) for p in more] == [5, 5] and not none
    [public, _], _ = split_up(CodeContestsSource((str(path),), tests=("public_tests",)))
    assert public.tests == Tests("stdio", (Case("1 2\n", "3\n"),))


def test_codecontests_files_directories_patterns_row_groups(tmp_path: Path):
    for number in range(2):
        rows = [{"name": f"{number}-{i}"} for i in range(5)]
        parquet(tmp_path / f"train-0000{number}-of-00002.parquet", *rows, group=2)
    parquet(tmp_path / "test-00000-of-00001.parquet", {"name": "held out"})
    names = [f"{number}-{i}" for number in range(2) for i in range(5)]
    for paths, expected in (
        (f"{tmp_path}", ["held out", *names]),
        (f"{tmp_path}/train-*.parquet", names),
        (f"file://{tmp_path}/train-00001-of-00002.parquet", names[5:]),
    ):
        source = CodeContestsSource((paths,))
        assert [p.problem_id for p in split_up(source)[0]] == expected
    assert len(CodeContestsSource((f"{tmp_path}",), splits=("train",)).partitions()) == 6
    with pytest.raises(DataError, match="names no file"):
        CodeContestsSource((f"{tmp_path}/other-*",)).partitions()


def test_codecontests_as_on_the_hub(tmp_path: Path):
    """`datasets` opens a directory of the hub's layout as it opens the hub's."""
    (tmp_path / "data").mkdir()
    for number in range(2):
        rows = [{"name": f"{number}-{i}"} for i in range(5)]
        parquet(tmp_path / "data" / f"train-0000{number}-of-00002.parquet", *rows)
    parquet(tmp_path / "data" / "valid-00000-of-00001.parquet", {"name": "v"})
    source = CodeContestsSource(dataset=str(tmp_path), splits=("train", "valid"))
    assert len(source.partitions()) == 3
    problems, rejects = split_up(source)
    assert [p.problem_id for p in problems] == [f"{n}-{i}" for n in range(2) for i in range(5)] + ["v"]
    assert [p.split for p in problems] == ["train"] * 10 + ["valid"]
    assert problems[0].tests and len(problems[0].solutions) == 2 and len(rejects) == 11
    with pytest.raises(DataError, match=r"cannot open split test .*source\.dataset"):
        CodeContestsSource(dataset=str(tmp_path), splits=("test",)).partitions()


@pytest.mark.parametrize(
    ("change", "reason", "rows"),
    [
        ({"description": None}, "bad_problem", 5),
        ({"name": None}, "bad_problem", 5),
        ({"public_tests": {"input": ["1"], "output": []}}, "bad_problem", 5),
        ({"solutions": {"language": [3, 3], "solution": ["x", None]}}, "missing_field", 1),
        ({"solutions": {"language": [3, 3], "solution": ["x"]}}, "missing_field", 1),
        ({"solutions": None, "incorrect_solutions": {"language": [9], "solution": ["x"]}}, "language", 1),
    ],
)
def test_codecontests_bad_rows(tmp_path: Path, change: dict[str, Any], reason: str, rows: int):
    path = parquet(tmp_path / "a.parquet", change, {"name": "good"})
    problems, rejects = split_up(CodeContestsSource((str(path),)))
    assert problems[-1].problem_id == "good"
    [reject] = [r for r in rejects if r.reason == reason and not r.place.startswith("good")]
    assert reject.rows == rows


def test_codecontests_not_utf8(tmp_path: Path):
    broken = pa.Array.from_buffers(pa.binary(), 1, pa.array([b"\xff"]).buffers()).view(pa.string())
    solution = pa.ListArray.from_arrays([0, 1], broken)
    side = pa.StructArray.from_arrays([pa.array([[3]]), solution], ["language", "solution"])
    table = pa.Table.from_pylist([ROW], schema=SCHEMA)
    number = SCHEMA.get_field_index("solutions")
    pq.write_table(table.set_column(number, SCHEMA.field(number), side), tmp_path / "a.parquet")
    problems, rejects = split_up(CodeContestsSource((str(tmp_path / "a.parquet"),)))
    assert [s.code for s in problems[0].solutions] == ["print(4)"]
    assert ("not_utf8", "1_A. Sum solutions[0]") in [(r.reason, r.place) for r in rejects]


def test_codecontests_bad_files(tmp_path: Path):
    path = tmp_path / "a.parquet"

    def told(**changes: Any) -> str:
        if changes:
            schema = changes.pop("schema", SCHEMA)
            parquet(path, changes, schema=schema)
        with pytest.raises(DataError) as caught:
            split_up(CodeContestsSource((str(path),)))
        return str(caught.value)

    assert "cannot open" in told()
    path.touch()
    assert "is empty" in told()
    path.write_bytes(b"PAR1 no parquet PAR1")
    assert "make it again" in told()
    names = [name for name in SCHEMA.names if name != "solutions"]
    assert "no column solutions" in told(schema=pa.schema([SCHEMA.field(name) for name in names]))
    wrong = SCHEMA.set(SCHEMA.get_field_index("difficulty"), pa.field("difficulty", pa.string()))
    assert "column difficulty is string" in told(schema=wrong, difficulty="hard")
    parquet(path, *[{"name": str(i), "description": f"{i}" * 3000} for i in range(50)])
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(content)
    assert "make it again" in told()


def test_codecontests_real_file(real_data: Path):
    problems, rejects = split_up(CodeContestsSource((str(real_data / "codecontests_200.parquet"),)))
    assert (len(problems), len(rejects)) == (200, 0)
    assert sum(s.is_correct for p in problems for s in p.solutions) == 200
    assert sum(not s.is_correct for p in problems for s in p.solutions) == 191
    assert all(p.tests and p.tests.kind == "stdio" and p.tests.cases for p in problems)
    assert sum(p.difficulty == 0 for p in problems) == 12  # unknown


# MBPP

FULL = {"task_id": 7, "text": "Add.", "code": "def f(): pass", "test_list": ["assert f() is None"]}
FULL |= {"test_setup_code": "import math", "challenge_test_list": []}
SANITIZED = {"task_id": 511, "prompt": "Add.", "code": "def f(): pass", "test_list": ["assert 1", "assert 2"]}
SANITIZED |= {"test_imports": ["import math"], "source_file": "x"}


def test_mbpp(tmp_path: Path):
    lines = [
        FULL,
        FULL | {"task_id": 11},
        FULL | {"task_id": 974},
        FULL | {"test_list": []},
        FULL | {"code": 3},
    ]
    content = "\n".join(json.dumps(line) for line in lines) + '\n{"text"\n\n["x"]\n{}\n'
    (tmp_path / "mbpp.jsonl").write_text(content)
    problems, rejects = split_up(MbppSource((str(tmp_path / "mbpp.jsonl"),)))
    assert [(p.problem_id, p.split) for p in problems] == [
        ("mbpp/7", "train"),
        ("mbpp/11", "test"),
        ("mbpp/974", "train"),
    ]
    assert problems[0].input == "assert f() is None"
    assert problems[0].tests == Tests("assert", setup="import math", code="assert f() is None")
    assert [(r.place, r.reason) for r in rejects] == [
        ("mbpp.jsonl:4", "wrong_type"),
        ("mbpp.jsonl:5", "wrong_type"),
        ("mbpp.jsonl:6", "bad_json"),
        ("mbpp.jsonl:8", "bad_json"),
        ("mbpp.jsonl:9", "missing_field"),
    ]
    (tmp_path / "sanitized.json").write_text(json.dumps([SANITIZED, 3]))
    [problem], [reject] = split_up(MbppSource((str(tmp_path / "sanitized.json"),)))
    assert (problem.instruction, problem.split, reject.reason) == ("Add.", "valid", "bad_json")
    assert problem.tests == Tests("assert", setup="import math", code="assert 1\nassert 2")
    assert split_up(MbppSource((str(tmp_path / "mbpp.jsonl"),), splits=("valid",)))[0] == []


@pytest.mark.parametrize(("name", "count"), [("mbpp.jsonl", 974), ("sanitized-mbpp.json", 427)])
def test_mbpp_real_files(real_data: Path, name: str, count: int):
    problems, rejects = split_up(MbppSource((str(real_data / name),)))
    assert (len(problems), len(rejects)) == (count, 0)
    assert all(p.tests and p.tests.kind == "assert" and p.tests.code for p in problems)


# The seed's format


def write_indexed(folder: Path, lines: list[Any], index_map: Any, name: str = "train.jsonl") -> str:
    content = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (folder / "train_metadata.json").write_text(json.dumps({"problem_index_map": index_map}))
    return str(folder / name)


def indices(correct: list[int], incorrect: list[int], **more: Any) -> dict[str, Any]:
    return {"correct_indices": correct, "incorrect_indices": incorrect, "difficulty": 3, **more}


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_indexed(tmp_path: Path, name: str):
    def row(text: str, **more: Any) -> dict[str, Any]:
        return {"instruction": "Do", "input": "", "output": text, **more}

    lines = [
        row("a"),
        row("b", is_correct=False, problem_id="p"),
        "",
        row("c", instruction="Q"),
        row("d"),
        "{",
        row("f"),
    ]
    lines.append(row("g", instruction="Another"))
    index_map = {"q": indices([3], []), "p": indices([0, 5, 7], [1, 4], correct_token_lengths=[1, 1, 1])}
    problems, rejects = split_up(IndexedJsonlSource((write_indexed(tmp_path, lines, index_map, name),)))
    assert [(p.problem_id, p.split, p.difficulty) for p in problems] == [("q", "train", 3), ("p", "train", 3)]
    assert [(s.code, s.is_correct) for s in problems[1].solutions] == [
        ("a", True),
        ("b", False),
        ("d", False),
    ]
    assert [(r.place, r.reason) for r in rejects] == [
        (f"{name}:7", "not_in_index_map"),
        (f"{name}:6", "bad_json"),
        (f"{name}:8", "other_statement"),
    ]


@pytest.mark.parametrize(
    ("index_map", "message"),
    [
        ({"p": indices([0, 9], [])}, "'p' has index 9, but its file has 4 lines"),
        ({"p": indices([3], [])}, "that one is blank|has 3 lines"),
        ({"p": indices([0], [0])}, "index 0 stands twice"),
        ({"p": indices([1], [])}, "train.jsonl:2 has is_correct False.*as True of problem 'p'"),
        ({"q": indices([0], [])}, "has problem_id 'p'.*'q'"),
        ({"p": indices([-1], [])}, "correct_indices.0"),
        ({"p": {"correct_indices": [0]}}, "incorrect_indices"),
        ({"p": indices([0], [], difficulty="hard")}, "difficulty"),
        ([1], "problem_index_map"),
    ],
)
def test_indexed_metadata_that_does_not_fit(tmp_path: Path, index_map: Any, message: str):
    good = {"instruction": "Do", "output": "x", "is_correct": True, "problem_id": "p"}
    path = write_indexed(tmp_path, [good, good | {"is_correct": False}, good, "", good], index_map)
    if "4 lines" in message:
        path = write_indexed(tmp_path, [good] * 4, index_map)
    with pytest.raises(DataError, match=message):
        split_up(IndexedJsonlSource((path,)))


def test_indexed_without_metadata(tmp_path: Path):
    path = write_indexed(tmp_path, [{}], {})
    (tmp_path / "train_metadata.json").unlink()
    with pytest.raises(DataError, match=r"cannot open .*train_metadata\.json"):
        IndexedJsonlSource((path,)).partitions()


# Places


def test_other_file_systems():
    line = {"instruction": "Do", "output": "x = 1", "problem_id": "p", "is_correct": True}
    memory = fsspec.filesystem("memory")
    memory.pipe("/sources/a.jsonl", json.dumps(line).encode())
    memory.pipe("/sources/b.jsonl.gz", gzip.compress(json.dumps(line | {"output": "x = 2"}).encode()))
    try:
        [problem], _ = split_up(JsonlSource(("memory://sources/a.jsonl", "memory://sources/b.jsonl.gz")))
        assert [s.code for s in problem.solutions] == ["x = 1", "x = 2"]
        assert found_files(("memory://sources/*.gz",), (".gz",)) == ("memory:///sources/b.jsonl.gz",)
    finally:
        memory.rm("/sources", recursive=True)
    with pytest.raises(DataError, match="nowhere"):
        JsonlSource(("nowhere://a.jsonl",)).partitions()


def test_splits_named_by_files():
    names = [
        "train-00000-of-00039-a.parquet",
        "validation.json",
        "s3://b/test.jsonl",
        "mbpp.jsonl",
        "x/training",
    ]
    assert [split_named(name) for name in names] == ["train", "valid", "test", None, None]


class ObjectStore(BaseHTTPRequestHandler):
    """As much of S3's protocol as reading one object takes."""

    content = b""

    def do_HEAD(self) -> None:
        self.answer(b"", len(self.content))

    def do_GET(self) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "bytes=0-0"))
        assert span is not None
        part = self.content[int(span[1]) : int(span[2]) + 1]
        self.answer(part, len(part), 206)

    def answer(self, body: bytes, length: int, status: int = 200) -> None:
        found = self.path.startswith("/bucket/data/a.jsonl")
        self.send_response(status if found else 404)
        self.send_header("Content-Length", str(length if found else 0))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body if found else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed, so fsspec opens S3 itself")
def test_pyarrow_opens_what_fsspec_lacks_a_package_for(monkeypatch: pytest.MonkeyPatch):
    line = {"instruction": "Do", "output": "x = 1", "problem_id": "p", "is_correct": True}
    ObjectStore.content = json.dumps(line).encode()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with ThreadingHTTPServer(("127.0.0.1", 0), ObjectStore) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = f"?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{server.server_port}"
        [problem], _ = split_up(JsonlSource((f"s3://bucket/data/a.jsonl{options}",)))
        with pytest.raises(DataError, match=r"cannot open s3://bucket/data/b\.jsonl"):
            JsonlSource((f"s3://bucket/data/b.jsonl{options}",)).partitions()
        server.shutdown()
    assert [s.code for s in problem.solutions] == ["x = 1"]
    assert problem.solutions[0].provenance == "a.jsonl:1"
