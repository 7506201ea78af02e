"""Run directories: resume with the same configuration, refuse another, one attempt at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.config.recipes import policy_recipe
from wmtp_ray.config import PolicyJobConfig, load_config
from wmtp_ray.config.load import validate
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.storage.runs import RunDirectory, commit, environment, run_path


def config(**sections: Any) -> PolicyJobConfig:
    return validate(PolicyJobConfig, policy_recipe(**sections), "a test")


def opened(root: Path, fresh: bool = False, **sections: Any) -> RunDirectory:
    return RunDirectory.open(root, "verifiable", config(**sections), fresh=fresh)


def test_a_run_records_its_configuration_and_what_each_attempt_ran_on(tmp_path: Path) -> None:
    run = opened(tmp_path)
    assert run.path == run_path(tmp_path, "verifiable", "mine") == tmp_path / "runs" / "verifiable-mine"
    assert load_config(PolicyJobConfig, run.path / "config.yaml") == config()
    assert run.result is None and run.failure is None
    attempts = [run.begin_attempt(), opened(tmp_path).begin_attempt()]
    recorded = json.loads((run.path / "environment.json").read_text())
    assert [entry["attempt"] for entry in recorded] == attempts
    for entry in recorded:
        assert {"commit", "python", "libraries", "cpus", "started"} <= entry.keys()
        assert entry["libraries"]["torch"] == environment()["libraries"]["torch"]


def test_the_same_configuration_takes_the_run_up(tmp_path: Path) -> None:
    opened(tmp_path).write("metrics.jsonl", "kept")
    assert opened(tmp_path).metrics.read_text() == "kept"


def test_a_changed_key_is_refused_with_both_values(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(ConfigError) as raised:
        opened(tmp_path, seed=7, weighting={"method": "uniform"}, critic=None)
    for change in (
        "seed was 0, is 7",
        "weighting.method was 'critic', is 'uniform'",
        "critic.run was 'mine', is None",
    ):
        assert change in str(raised.value)
    assert "--fresh" in str(raised.value) and "resume_allow" in str(raised.value)
    assert load_config(PolicyJobConfig, tmp_path / "runs/verifiable-mine/config.yaml") == config()


@pytest.mark.parametrize(
    "free",
    [
        {"cluster": {"num_workers": 2, "threads_per_worker": 4}},
        {"checkpoint": {"every_steps": 3}},
        {"storage": {"root": "/moved"}},
        {"critic": {"run": "mine", "actors": 3, "window": 9, "cache": "other"}},
        {"seed": 7, "resume_allow": ["seed", "data.sampling.seed"]},
        {"optimizer": {"eps": 1.0}, "resume_allow": ["optimizer"]},
    ],
)
def test_what_changes_no_number_may_change(tmp_path: Path, free: dict[str, Any]) -> None:
    opened(tmp_path)
    assert load_config(PolicyJobConfig, opened(tmp_path, **free).path / "config.yaml") == config(**free)


def test_an_allowed_key_is_not_a_prefix_of_another(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(ConfigError, match="seed was 0, is 7"):
        opened(tmp_path, seed=7, resume_allow=["se"])


def test_a_finished_run_keeps_the_configuration_it_was_made_with(tmp_path: Path) -> None:
    opened(tmp_path).finish({"steps": 3})
    run = opened(tmp_path, cluster={"num_workers": 2})
    assert load_config(PolicyJobConfig, run.path / "config.yaml") == config()


def test_another_critic_is_not_where_and_how_fast(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(ConfigError, match=r"critic\.run was 'mine', is 'other'"):
        opened(tmp_path, critic={"run": "other"})


def test_fresh_moves_the_old_run_aside(tmp_path: Path) -> None:
    opened(tmp_path).finish({"steps": 3})
    assert opened(tmp_path).result == {"steps": 3}
    run = opened(tmp_path, fresh=True, seed=7)
    assert run.result is None
    aside = [p for p in run.path.parent.iterdir() if p != run.path]
    assert len(aside) == 1 and RunDirectory(aside[0]).result == {"steps": 3}
    again = opened(tmp_path, fresh=True, seed=8)
    assert again.result is None
    assert len(list(run.path.parent.iterdir())) == 3


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(StorageError, match=r"cannot use .*verifiable-mine: .*set storage\.root"):
        opened(tmp_path)


def test_only_the_newest_attempt_may_write(tmp_path: Path) -> None:
    run = opened(tmp_path)
    first = run.begin_attempt()
    assert run.is_current(first)
    run.record_failure("DataError", "sample 3", "trace")
    run.record_failure("StorageError", "follows from it", "trace")
    assert run.failure == {"kind": "DataError", "message": "sample 3", "trace": "trace"}
    second = run.begin_attempt()
    assert run.failure is None
    assert run.exported_step is None
    run.record_export(7)
    assert run.exported_step == 7
    assert run.is_current(second) and not run.is_current(first)


def test_no_attempt_is_current_in_a_run_that_was_moved_aside(tmp_path: Path) -> None:
    run = opened(tmp_path)
    attempt = run.begin_attempt()
    opened(tmp_path, fresh=True)
    assert not run.is_current(attempt)


def test_the_commit_may_be_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WMTP_COMMIT", "abc123")
    assert commit() == environment()["commit"] == "abc123"


def test_a_repository_that_does_not_track_the_code_does_not_name_it(tmp_path: Path) -> None:
    package = tmp_path / ".venv" / "wmtp_ray"
    shutil.copytree(
        Path(__file__).parents[2] / "wmtp_ray", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / ".gitignore").write_text(".venv\n")

    def git(*arguments: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(
            ["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def named() -> str:
        environment = {k: v for k, v in os.environ.items() if k != "WMTP_COMMIT"}
        program = "from wmtp_ray.storage.runs import commit; print(commit())"
        done = subprocess.run(
            [sys.executable, "-B", "-c", program],
            cwd=package.parent,
            env=environment | {"PYTHONPATH": str(package.parent)},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".gitignore")
    git("commit", "--quiet", "--message", "the user's own")
    assert named().startswith("source-")
    git("add", "--force", ".venv/wmtp_ray")
    git("commit", "--quiet", "--message", "with the code")
    assert named() == git("rev-parse", "--short", "HEAD")


def test_another_run_may_be_gone_on_with_where_nothing_but_names_differs(tmp_path: Path) -> None:
    origin = opened(tmp_path)
    other = config(name="other", resume=str(origin.path))
    origin.refuse_changes(other, free=("name", "resume"))
    changed = config(name="other", seed=7, resume=str(origin.path))
    with pytest.raises(ConfigError, match=r"seed was 0, is 7.*resume_allow"):
        origin.refuse_changes(changed, free=("name", "resume"))
    origin.refuse_changes(
        config(name="other", seed=7, resume_allow=["seed", "data"]), free=("name", "resume")
    )
    with pytest.raises(ConfigError, match="is no run directory"):
        RunDirectory(tmp_path / "nowhere").refuse_changes(other)


def test_a_request_to_stop_is_for_one_attempt(tmp_path: Path) -> None:
    run = opened(tmp_path)
    first = run.begin_attempt()
    assert not run.stop_requested(first)
    run.request_stop(first)
    assert run.stop_requested(first) and not run.stop_requested(run.begin_attempt())


def test_notices_are_single_lines(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.notice("a worker\n died")
    run.notice("and another")
    assert (run.path / "notices.log").read_text() == "a worker died\nand another\n"
