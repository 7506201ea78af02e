"""The report of an evaluation: whole, self-contained, and escaped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.evaluation.test_numbers import all_samples, table
from wmtp_ray.data.records import Case, Problem, Tests
from wmtp_ray.errors import StorageError
from wmtp_ray.evaluation.benchmarks import from_problems
from wmtp_ray.evaluation.outcome import read_outcome, write_outcome
from wmtp_ray.evaluation.samples import SampleLog, read_samples
from wmtp_ray.report.evaluation import EvaluationReport
from wmtp_ray.report.runs import read_training_run


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage root with a weighted run and one that logged a loss only."""
    for name, extra in (
        ("verifiable-x", {"weight_histogram": [1.0] * 30, "weight_ess": 0.7}),
        ("baseline-x", {}),
    ):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        records = [{"step": 0, "val_loss_unweighted": 2.0}]
        records += [{"step": s, "loss": 3.0 / s, "loss_unweighted": 2.0 / s, **extra} for s in (1, 2, 3)]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (run / "metrics.jsonl").write_text(lines + '{"step": 4, "lo')
    sample = {"sample_id": 7, "tokens": ["if a", " < b"], "values": [0.1, 0.2], "advantages": [0.0, 0.1]}
    content = {"samples": [{**sample, "weights": [0.5, 2.5]}]}
    (tmp_path / "runs" / "verifiable-x" / "weights_sample.json").write_text(json.dumps(content))
    return tmp_path


def report(storage: Path) -> str:
    tests = Tests("call", cases=(Case("f()", "1"),))
    benchmark = from_problems([Problem(p, "Write <b>f</b>.", (), tests=tests) for p in "pq"], "b")
    runs = [read_training_run(storage, name) for name in ("verifiable-x", "baseline-x")]
    facts = {"decoding": "2 samples", "tuning": "Settings were tuned & so on."}
    content = EvaluationReport(
        "A & B", table(all_samples()), [benchmark], all_samples(), runs, facts, "name: <x>\n"
    )
    return content.html()


def test_the_report_shows_everything_and_needs_nothing(storage: Path) -> None:
    html = report(storage)
    for heading in ("Results", "Paired differences", "Training", "Token weights", "Samples", "Settings"):
        assert f"<h2>{heading}</h2>" in html
    assert "75.0 [50.0, 100.0]" in html and "2 of 7 problems" in html and "tuned &amp; so on" in html
    assert "Write &lt;b&gt;f&lt;/b&gt;" in html and " &lt; b</span>" in html and "name: &lt;x&gt;" in html
    assert html.count("<svg") == 1 + 3 + 1, "pass@k, two losses and effective sample size, the histogram"
    assert not re.search(r"<(script|link|img|iframe)\b|(src|href)=\"(?!#)|url\((?!#)", html)
    assert set(re.findall(r"https?://[^\"' <)]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "var(--s1)" in html and not re.search(r"#f0f00\d|#0a0b0c", html), (
        "every marker colour follows the theme"
    )


def test_the_same_result_gives_the_same_report(storage: Path) -> None:
    assert report(storage) == report(storage)


def test_a_training_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="names baseline-y"):
        read_training_run(tmp_path, "baseline-y")


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = table(all_samples())
    write_outcome(written, {"seed": "0"}, tmp_path)
    assert read_outcome(tmp_path) == (written, {"seed": "0"})


def test_a_log_takes_up_what_a_killed_writer_left(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    first, second, *_ = all_samples("sandbox_fault")
    log = SampleLog(path)
    log.append(first)
    log.close()
    *_, passed = all_samples("passed")
    log = SampleLog(path)
    assert first.key not in log, "what the sandbox failed on is judged again"
    log.append(passed)
    log.close()
    with path.open("a") as file:
        file.write('{"model": "ba')
    log = SampleLog(path)
    assert [s.key for s in log.samples] == [passed.key] and second.key not in log
    log.close()
    assert list(read_samples(path)) == [passed]
    path.write_text('{"model": 1}\n')
    with pytest.raises(StorageError, match="line 1 is no sample"):
        SampleLog(path)
