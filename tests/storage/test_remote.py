"""Complete directories go to another file system and come back whole, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from wmtp_ray.errors import DataError, StorageError
from wmtp_ray.storage.manifest import MANIFEST_NAME, verify_manifest, write_manifest
from wmtp_ray.storage.remote import copy_path, download, upload

URI = "memory://bucket/things/one"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    if filesystem.exists("/bucket"):
        filesystem.rm("/bucket", recursive=True)


def written(directory: Path, content: str = "a") -> Path:
    (directory / "below").mkdir(parents=True)
    (directory / "first").write_text(content)
    (directory / "below" / "second").write_text("b" * 100)
    write_manifest(directory, "thing", made="here")
    return directory


@pytest.mark.usefixtures("memory")
def test_there_and_back(tmp_path: Path):
    source = written(tmp_path / "source")
    assert upload(source, "thing", URI)
    assert not upload(source, "thing", URI + "/")
    copy = download(URI, "thing", tmp_path / "cache")
    assert copy == copy_path(URI, "thing", tmp_path / "cache") and copy.name.startswith("one-")
    assert verify_manifest(copy, "thing") == verify_manifest(source, "thing")


def test_a_second_download_reads_only_the_manifest(tmp_path: Path, memory: fsspec.AbstractFileSystem):
    upload(written(tmp_path / "source"), "thing", URI)
    copy = download(URI, "thing", tmp_path / "cache")
    memory.rm("/bucket/things/one/first")
    assert download(URI, "thing", tmp_path / "cache") == copy


@pytest.mark.usefixtures("memory")
def test_another_content_has_another_copy_and_is_never_written_over(tmp_path: Path):
    upload(written(tmp_path / "a"), "thing", URI)
    first = download(URI, "thing", tmp_path / "cache")
    with pytest.raises(StorageError, match="holds another thing"):
        upload(written(tmp_path / "b", "other"), "thing", URI)
    fsspec.filesystem("memory").rm("/bucket", recursive=True)
    upload(tmp_path / "b", "thing", URI)
    second = download(URI, "thing", tmp_path / "cache")
    assert second != first
    assert [(copy / "first").read_text() for copy in (first, second)] == ["a", "other"]


@pytest.mark.parametrize("lost", ["first", MANIFEST_NAME])
def test_what_is_not_whole_is_no_directory(tmp_path: Path, memory: fsspec.AbstractFileSystem, lost: str):
    upload(written(tmp_path / "source"), "thing", URI)
    memory.rm(f"/bucket/things/one/{lost}")
    with pytest.raises(StorageError, match="upload"):
        download(URI, "thing", tmp_path / "cache")
    memory.pipe(f"/bucket/things/one/{lost}", (tmp_path / "source" / lost).read_bytes())
    assert verify_manifest(download(URI, "thing", tmp_path / "cache"), "thing")


@pytest.mark.parametrize("name", ["../../escaped", "below/../../../escaped", "{tmp_path}/escaped"])
def test_nothing_is_written_outside_the_copy(tmp_path: Path, memory: fsspec.AbstractFileSystem, name: str):
    name = name.format(tmp_path=tmp_path)
    upload(written(tmp_path / "source"), "thing", URI)
    manifest = json.loads(memory.cat(f"/bucket/things/one/{MANIFEST_NAME}"))
    manifest["files"][name] = {"bytes": 1, "sha256": ""}
    memory.pipe(f"/bucket/things/one/{MANIFEST_NAME}", json.dumps(manifest).encode())
    for place in (f"/bucket/things/one/{name}", "/bucket/escaped", "/escaped"):
        memory.pipe(place, b"x")
    with pytest.raises(StorageError, match="is not a manifest"):
        download(URI, "thing", tmp_path / "cache")
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "cache"}


def test_a_damaged_file_is_refused(tmp_path: Path, memory: fsspec.AbstractFileSystem):
    upload(written(tmp_path / "source"), "thing", URI)
    memory.pipe("/bucket/things/one/first", b"z")
    with pytest.raises(StorageError, match="first changed since its manifest"):
        download(URI, "thing", tmp_path / "cache")
    assert not copy_path(URI, "thing", tmp_path / "cache").exists()


@pytest.mark.usefixtures("memory")
def test_bad_addresses(tmp_path: Path):
    source = written(tmp_path / "source")
    with pytest.raises(DataError, match="nowhere"):
        upload(source, "thing", "nowhere://bucket/one")
    with pytest.raises(StorageError, match="no complete thing at memory://bucket/none"):
        download("memory://bucket/none", "thing", tmp_path / "cache")
    upload(source, "thing", URI)
    with pytest.raises(StorageError, match="is a thing, not a store"):
        download(URI, "store", tmp_path / "cache")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StorageError, match="cannot write file://"):
        upload(source, "thing", f"file://{blocked}/below")
