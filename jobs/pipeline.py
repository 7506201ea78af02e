"""Several jobs, one after another, from one configuration: on this machine, or on the cluster in RAY_ADDRESS.

Each stage is submitted as a user would do it, `ray job submit --working-dir . -- python jobs/STAGE.py --config FILE
KEY=VALUE ...`, so finished stages are reused, and interrupted ones go on. Without RAY_ADDRESS a local Ray with its
dashboard runs for as long as this command does. `make quickstart` is the first of these:

    python jobs/pipeline.py --config configs/quickstart/pipeline.yaml storage.root=/data/wmtp
    python jobs/pipeline.py --config configs/quickstart/loop.yaml storage.root=/data/wmtp --dry-run
"""

from __future__ import annotations

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's client reads it when it is imported

import shlex
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from rich.console import Console

from jobs.stages import CHECKOUT, check_stages
from jobs.summary import quickstart_summary
from wmtp_ray.cluster.local import local_ray
from wmtp_ray.cluster.submit import submit
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.pipeline import PipelineConfig, StageConfig

console = Console(highlight=False, markup=False, soft_wrap=True)


def run(config: PipelineConfig, flags: Flags) -> None:
    """Run every stage that is not finished, and show what came out."""
    commands = [_arguments(stage, config, flags) for stage in config.stages]
    # In a process of its own, since what the jobs import would stay in this one's memory.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(check_stages, config).result()
    if flags.dry_run:
        return console.print("\n".join(f"python {shlex.join(command)}" for command in commands))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the local Ray is ended, too
    started = time.monotonic()
    with _cluster(config) as (address, python):
        for number, (stage, command) in enumerate(zip(config.stages, commands, strict=True)):
            console.rule(f"{number + 1}/{len(commands)} {stage.job}{_left(config, number)}", align="left")
            submit(address, CHECKOUT, python, command)
    console.rule(f"done in {(time.monotonic() - started) / 60:.1f} minutes", align="left")
    if config.summary:
        console.print(quickstart_summary(config.storage.root, config.summary))


def _arguments(stage: StageConfig, config: PipelineConfig, flags: Flags) -> list[str]:
    fresh = ["--fresh"] if flags.fresh else []
    root = f"storage.root={config.storage.root}"
    return [f"jobs/{stage.job}.py", "--config", str(stage.config), root, *stage.overrides, *fresh]


def _left(config: PipelineConfig, number: int) -> str:
    minutes = [stage.minutes for stage in config.stages[number:]]
    known = [m for m in minutes if m is not None]
    return f" (about {sum(known):g} minutes left on 2 cores)" if len(known) == len(minutes) else ""


@contextmanager
def _cluster(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    """Where to submit jobs, and the Python to run there: on the cluster that the user named, or on one of our own."""
    if address := os.environ.get("RAY_ADDRESS"):
        console.print(f"using the Ray cluster at {address}")
        yield address, "python"
        return
    console.print("starting a local Ray ...")
    with local_ray(config.dashboard_port, config.logical_cpus) as address:
        console.print(f"Ray dashboard: {address} (its token: `ray get-auth-token`)")
        yield address, sys.executable


if __name__ == "__main__":
    run_command(PipelineConfig, run, __doc__, shorthands={"--dashboard-port": "dashboard_port"})
