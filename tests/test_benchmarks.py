"""The runner of the benchmarks: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import known_modules, main
from benchmarks.figure import Figure

KEYS = ["name", "value", "unit", "counterpart", "target", "holds"]


@pytest.mark.parametrize(
    ("value", "target", "holds"),
    [
        (3.0, "<= 3", True),
        (3.01, "<= 3", False),
        (0.95, ">= 0.95", True),
        (0.0, "== 0", True),
        (1.0, "< 1", False),
        (1.0, "> 1", False),
        (0.7, "0.7..0.9", True),
        (0.91, "0.7..0.9", False),
        (math.nan, "<= 3", False),
        (math.nan, ">= 3", False),
        (5.0, None, None),
    ],
)
def test_whether_a_target_holds_is_computed(value: float, target: str | None, holds: bool | None) -> None:
    assert Figure("f", value, "x", target=target).holds is holds


@pytest.mark.parametrize("target", ["about 3", "=< 3", "<=", "3", "..", "<= three"])
def test_a_target_that_cannot_be_computed_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="figure speed: target"):
        Figure("speed", 1.0, "x", target=target)


def test_a_figure_is_one_line_of_json_even_when_it_is_not_finite() -> None:
    line = Figure("f", math.inf, "s", "naïve", "<= 3").to_json()
    assert "\n" not in line
    assert json.loads(line) == dict(zip(KEYS, ["f", None, "s", "naïve", "<= 3", False], strict=True))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of benchmarks/ with one module that measures, one that cannot, one that breaks."""
    texts = {
        "wmtp_good": "def figures():\n    yield Figure('fast', 2.0, 'x', 'slow | 4 s', '>= 1')\n"
        "    yield Figure('short', 0.5, 'x', None, '>= 1')\n",
        "wmtp_needy": "def figures():\n    yield Figure('some', 1.0, 's')\n    raise NotMeasured('no GPU')\n",
        "wmtp_broken": "def figures():\n    yield Figure('one', 1.0, 's')\n    raise KeyError('gone')\n",
    }
    for name, text in texts.items():
        header = "from benchmarks.figure import Figure, NotMeasured\n"
        (tmp_path / f"{name}.py").write_text(header + text)
    monkeypatch.setattr(benchmarks, "__path__", [str(tmp_path)])
    return tmp_path


def test_all_modules_run_though_one_breaks(modules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert known_modules() == ["wmtp_broken", "wmtp_good", "wmtp_needy"]
    results = modules / "results.md"
    assert main(["--results", str(results)]) == 1
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [list(line) for line in lines] == [KEYS] * 4
    assert [line["holds"] for line in lines] == [None, True, False, None]
    assert "wmtp_needy: not measured: no GPU" in printed.err
    assert "4 figures, 1 short of their target, 1 modules failed (wmtp_broken)" in printed.err
    page = results.read_text()
    for part in (
        "- Commit:",
        "- Machine:",
        "torch ",
        "| slow \\| 4 s |",
        "**no**",
        "Not measured: no GPU",
        "KeyError",
    ):
        assert part in page, part


def test_named_modules_only_and_a_missed_target_is_no_failure(
    modules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wmtp_good"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_unknown_name_lists_the_known(modules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wmtp_good", "gea"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "no benchmark named gea; there are: wmtp_broken, wmtp_good, wmtp_needy\n"
