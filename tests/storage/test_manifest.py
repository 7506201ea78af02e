"""A directory is whole exactly when its manifest says so and every file is as it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_ray.errors import StorageError
from wmtp_ray.storage import read_manifest, verify_manifest, write_manifest
from wmtp_ray.storage.manifest import write_bytes_atomically


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("b")
    write_manifest(tmp_path, "thing", answer=42, parts=["x", 1.5, None])
    return tmp_path


def test_round_trip(whole: Path) -> None:
    manifest = verify_manifest(whole, "thing")
    assert manifest == read_manifest(whole, "thing")
    assert manifest.facts == {"answer": 42, "parts": ["x", 1.5, None]}
    assert {name: entry.bytes for name, entry in manifest.files.items()} == {"a.bin": 3, "deep/b.txt": 1}


def test_equal_content_has_an_equal_fingerprint(
    whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copy")
    (copy / "deep").mkdir()
    (copy / "deep" / "b.txt").write_text("b")
    (copy / "a.bin").write_bytes(b"abc")
    first = read_manifest(whole, "thing").fingerprint
    assert write_manifest(copy, "thing", parts=["x", 1.5, None], answer=42).fingerprint == first
    assert write_manifest(copy, "thing", answer=43, parts=["x", 1.5, None]).fingerprint != first
    assert write_manifest(copy, "other", answer=42, parts=["x", 1.5, None]).fingerprint != first
    (copy / "a.bin").write_bytes(b"abd")
    assert write_manifest(copy, "thing", answer=42, parts=["x", 1.5, None]).fingerprint != first


def test_writing_again_leaves_the_old_manifest_out(whole: Path) -> None:
    before = read_manifest(whole, "thing")
    assert write_manifest(whole, "thing", **before.facts) == before


@settings(max_examples=30)
@given(
    position=st.integers(0, 400), bit=st.integers(0, 7), target=st.sampled_from(["a.bin", "manifest.json"])
)
def test_any_flipped_bit_is_found(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int, target: str
) -> None:
    directory = tmp_path_factory.mktemp("flipped")
    (directory / "a.bin").write_bytes(bytes(range(200)))
    write_manifest(directory, "thing", step=3)
    content = bytearray((directory / target).read_bytes())
    content[position % len(content)] ^= 1 << bit
    (directory / target).write_bytes(bytes(content))
    try:
        manifest = verify_manifest(directory, "thing")
    except StorageError as error:
        assert str(directory) in str(error)
    else:  # white space between the manifest's fields may change
        assert target == "manifest.json"
        assert (manifest.facts, manifest.kind, list(manifest.files)) == ({"step": 3}, "thing", ["a.bin"])


@pytest.mark.parametrize("damage", ["cut", "removed", "longer"])
def test_damaged_files_are_named(whole: Path, damage: str) -> None:
    file = whole / "deep" / "b.txt"
    match damage:
        case "cut":
            os.truncate(file, 0)
        case "removed":
            file.unlink()
        case "longer":
            file.write_text("bb")
    read_manifest(whole, "thing")
    with pytest.raises(
        StorageError, match=r"deep/b\.txt (is missing|changed since its manifest); make the thing"
    ):
        verify_manifest(whole, "thing")


def test_directories_that_are_not_whole(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(StorageError, match="does not exist; make it again"):
        read_manifest(tmp_path / "none", "thing")
    with pytest.raises(StorageError, match="is a thing, not a store; name another directory"):
        read_manifest(whole, "store")
    (whole / "manifest.json").write_text('{"kind": "thing"')
    with pytest.raises(StorageError, match="is not a manifest"):
        read_manifest(whole, "thing")
    (whole / "manifest.json").unlink()
    with pytest.raises(StorageError, match=r"is incomplete \(no manifest\.json\)"):
        read_manifest(whole, "thing")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "a"
    with pytest.raises(StorageError, match=r"cannot write .*; free space or change storage\.root"):
        write_bytes_atomically(file, b"x")
    file.parent.mkdir()
    write_bytes_atomically(file, b"old")
    file.unlink()
    file.mkdir()  # replacing a directory fails after everything is written
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes_atomically(file, b"new")
    assert list(file.parent.iterdir()) == [file]
