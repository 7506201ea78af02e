"""The timeline of a run: a killed writer's last line is not in it, and a full disk is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_ray.errors import StorageError
from wmtp_ray.storage.timeline import FILE, Span, read_timeline, record_span, timed


def test_what_was_recorded_is_read(tmp_path: Path) -> None:
    assert read_timeline(tmp_path) == []
    with pytest.raises(ZeroDivisionError), timed(tmp_path, "failing"):
        print(1 / 0)
    with timed(tmp_path, "validation"):
        pass
    with timed(None, "of another rank"):
        pass
    record_span(tmp_path, Span("verifying", 1.0, 3.0, 8.0))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"activity": "tr')
    validation, verifying = read_timeline(tmp_path)
    assert validation.activity == "validation" and 0 <= validation.work < 5
    assert verifying == Span("verifying", 1.0, 3.0, 8.0) and verifying.work == 8.0


def test_a_disk_that_takes_no_more_is_named() -> None:
    with pytest.raises(StorageError, match=r"cannot write .*timeline.jsonl: .*; free space"):
        record_span(Path("/proc/self"), Span("training", 0.0, 1.0))
