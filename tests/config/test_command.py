"""The command line: flags, one line and exit code 1 for a user's mistake, a traceback for a bug."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.config.recipes import policy_recipe, write_recipe
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.errors import DataError

DESCRIPTION = """Train something.

    python jobs/x.py --config a.yaml
    ray job submit -- python jobs/x.py --config b.yaml
"""

Job = Callable[[PolicyJobConfig, Flags], None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int | str | None]:
    """Runs a job as `x.py --config FILE ARGUMENTS` and returns the exit code."""
    config = write_recipe(tmp_path, policy_recipe())

    def run(job: Job, *arguments: str) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["x.py", "--config", str(config), *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(PolicyJobConfig, job, DESCRIPTION, {"--with-seed": "seed"})
        return ended.value.code

    return run


def test_flags_and_overrides_reach_the_job(command: Callable[..., int]) -> None:
    seen: list[tuple[int, Flags]] = []

    def job(config: PolicyJobConfig, flags: Flags) -> None:
        seen.append((config.seed, flags))

    assert command(job) == 0
    assert command(job, "--dry-run", "seed=3") == 0
    assert command(job, "seed=4", "seed=5", "--fresh") == 0
    assert seen == [(0, Flags(False, False)), (3, Flags(True, False)), (5, Flags(False, True))]


def test_a_shorthand_stands_for_its_key(command: Callable[..., int | str | None]) -> None:
    seen: list[int] = []

    def job(config: PolicyJobConfig, flags: Flags) -> None:
        seen.append(config.seed)

    assert command(job, "--with-seed", "7", "--dry-run") == 0
    assert command(job, "--with-seed=8") == 0
    assert seen == [7, 8]
    assert command(job, "--with-seed") == "error: --with-seed needs a value"


def test_a_mistake_is_one_line_and_exit_code_1(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(lambda config, flags: None, "sed=3") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.endswith("unknown key sed; did you mean seed? (changed on the command line)\n")
    assert output.err.count("\n") == 1


def test_a_message_of_several_lines_is_still_one_line(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def job(config: PolicyJobConfig, flags: Flags) -> None:
        raise DataError("sample 3\n  is unusable")

    assert command(job) == 1
    assert capsys.readouterr().err == "error: sample 3 is unusable\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def job(config: PolicyJobConfig, flags: Flags) -> None:
        raise KeyError("a bug")

    config = write_recipe(tmp_path, policy_recipe())
    monkeypatch.setattr(sys, "argv", ["x.py", "--config", str(config)])
    with pytest.raises(KeyError):
        run_command(PolicyJobConfig, job, DESCRIPTION, {"--with-seed": "seed"})


def test_help_shows_the_docstring_with_its_commands_on_their_lines(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(lambda config, flags: None, "--help") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for line in DESCRIPTION.splitlines():
        assert line.strip() in lines


def test_without_a_config_the_option_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x.py"])
    with pytest.raises(SystemExit) as ended:
        run_command(PolicyJobConfig, lambda config, flags: None, DESCRIPTION)
    assert ended.value.code == 2
    assert "--config" in capsys.readouterr().err
