"""The main job once, on this machine or on the cluster in RAY_ADDRESS: data, critic, baseline, weighted policy, pass@k.

Each stage is submitted as a user would do it, `ray job submit --working-dir . -- python jobs/STAGE.py --config
configs/quickstart/STAGE.yaml KEY=VALUE ...`; finished stages are reused. Without RAY_ADDRESS a local Ray with its
dashboard runs for as long as this command does.

    make quickstart
    python -m jobs.quickstart storage.root=/data/wmtp
"""

from __future__ import annotations

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's client reads it when it is imported

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jobs.summary import quickstart_summary
from wmtp_ray.cluster.local import local_ray
from wmtp_ray.cluster.submit import submit
from wmtp_ray.config.base import Section
from wmtp_ray.config.command import quiet_libraries
from wmtp_ray.config.load import validate_overrides
from wmtp_ray.config.run import StorageConfig
from wmtp_ray.errors import WMTPError

CHECKOUT = Path(__file__).resolve().parent.parent
STAGES = {"prepare": 3, "critic": 4, "baseline": 2, "verifiable": 2, "evaluate": 5}
"""Stages in order, each with its minutes on 2 cores (for the time left that is shown)."""
LOGICAL_CPUS = 4
"""More than the machine has, so that read tasks find a place beside workers and critics that wait."""

console = Console(highlight=False, markup=False, soft_wrap=True)


class QuickstartConfig(Section):
    """What may be changed on the command line; it is handed to every stage."""

    storage: StorageConfig = StorageConfig()


def quickstart(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[storage.root=DIRECTORY]")] = None,
    dashboard_port: Annotated[
        int, typer.Option(envvar="DASHBOARD_PORT", help="Of the local Ray's dashboard.")
    ] = 8265,
) -> None:
    """Run every stage that is not finished and print what came out."""
    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the local Ray is ended, too
    try:
        root = validate_overrides(QuickstartConfig, overrides or []).storage.root
        started = time.monotonic()
        with _cluster(dashboard_port) as (address, python):
            for number, stage in enumerate(STAGES):
                left = sum(list(STAGES.values())[number:])
                console.rule(
                    f"{number + 1}/{len(STAGES)} {stage} (about {left} minutes left on 2 cores)", align="left"
                )
                config = f"configs/quickstart/{stage}.yaml"
                submit(
                    address,
                    CHECKOUT,
                    python,
                    [f"jobs/{stage}.py", "--config", config, f"storage.root={root}"],
                )
        console.rule(f"done in {(time.monotonic() - started) / 60:.1f} minutes", align="left")
        console.print(quickstart_summary(root, "quickstart"))
    except WMTPError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _cluster(dashboard_port: int) -> Iterator[tuple[str, str]]:
    """Where to submit jobs, and the Python to run there: on the cluster that the user named, or on one of our own."""
    if address := os.environ.get("RAY_ADDRESS"):
        console.print(f"using the Ray cluster at {address}")
        yield address, "python"
        return
    console.print("starting a local Ray ...")
    with local_ray(dashboard_port, LOGICAL_CPUS) as address:
        console.print(f"Ray dashboard: {address} (its token: `ray get-auth-token`)")
        yield address, sys.executable


if __name__ == "__main__":
    typer.run(quickstart)
