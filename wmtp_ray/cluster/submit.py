"""Submit a stage as `ray job submit --working-dir . -- python jobs/NAME.py ...` does, and show its log."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from wmtp_ray.errors import InfraError
from wmtp_ray.storage.runs import commit

KEPT_OUT = [".git", ".venv", ".wmtp", "tests", "docs", "benchmarks", "**/__pycache__"]
"""Parts of a checkout that no job needs on the cluster."""

STOP_SECONDS = "300"
"""Between `ray job stop`'s SIGTERM and its SIGKILL: time to end the step in progress and save a checkpoint."""

RAY_OWN_LINES = ("Running entrypoint for job", "Runtime env is setting up")


def submit(address: str, checkout: Path, python: str, arguments: Sequence[str]) -> None:
    """Run `PYTHON ARGUMENTS` from a copy of `checkout` on the cluster, with its log on this terminal.

    Raises `InfraError` where the job did not succeed. Interrupted, it stops the job and waits until that has saved its
    work; interrupted again, it does not wait.
    """
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, RayError) as error:
        raise InfraError(
            f"cannot submit to the Ray cluster at {address}: {' '.join(str(error).split())[:300]}; start one with "
            "`ray start --head` (this Ray and Python version), or unset RAY_ADDRESS"
        ) from error
    entrypoint = shlex.join([python, *arguments])
    job = client.submit_job(
        entrypoint=entrypoint,
        runtime_env={
            "working_dir": str(checkout),
            "excludes": KEPT_OUT,
            "env_vars": {
                "WMTP_COMMIT": commit(),
                "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "0"),
                "RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS,
            },
        },
    )
    try:
        asyncio.run(_show(client, job))
    except BaseException:
        _stop(client, job)
        raise
    status = client.get_job_status(job)
    if status != JobStatus.SUCCEEDED:
        raise InfraError(f"job {job} ({shlex.join(arguments)}) ended as {status}; its log is above")


def _stop(client: JobSubmissionClient, job: str) -> None:
    client.stop_job(job)
    sys.stdout.write(f"stopping {job}: it ends the step in progress and saves a checkpoint\n")
    sys.stdout.flush()
    deadline = time.monotonic() + float(STOP_SECONDS)
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.5)


async def _show(client: JobSubmissionClient, job: str) -> None:
    async for text in client.tail_job_logs(job):
        shown = [
            line for line in text.splitlines(keepends=True) if not any(own in line for own in RAY_OWN_LINES)
        ]
        sys.stdout.write("".join(shown))
        sys.stdout.flush()
