"""The timeline of a run: what failed is in it, too, and a killed writer's last line is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_ray.storage.timeline import FILE, Span, read_timeline, record_span, timed


def test_what_was_recorded_is_read(tmp_path: Path) -> None:
    assert read_timeline(tmp_path) == []
    with pytest.raises(ValueError), timed(tmp_path, "failing"):
        int("x")
    with timed(None, "of another rank"):
        pass
    record_span(tmp_path, Span("verifying", 1.0, 3.0, 8.0))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"activity": "tr')
    failing, verifying = read_timeline(tmp_path)
    assert failing.activity == "failing" and 0 <= failing.work < 5
    assert verifying == Span("verifying", 1.0, 3.0, 8.0) and verifying.work == 8.0
