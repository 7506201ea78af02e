"""The log of judged samples: one writer at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wmtp_ray.errors import StorageError
from wmtp_ray.evaluation.samples import JudgedSample, SampleLog, read_samples

SAMPLE = JudgedSample("base", 0.2, "b", "p", 0, "x = 1", 4, False, "passed", "", 1, 1, 0.1)


def test_a_second_writer_is_refused_and_the_first_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    first = SampleLog(path)
    first.append(SAMPLE)
    with pytest.raises(StorageError, match="another process is adding to"):
        SampleLog(path)
    second_sample = replace(SAMPLE, sample=1)
    first.append(second_sample)
    first.close()
    assert list(read_samples(path)) == [SAMPLE, second_sample]
    later = SampleLog(path)
    assert later.samples == [SAMPLE, second_sample]
    later.close()


def test_what_the_sandbox_failed_on_is_drawn_again(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    log = SampleLog(path)
    log.append(replace(SAMPLE, status="sandbox_fault"))
    log.close()
    assert SAMPLE.key not in SampleLog(path)
