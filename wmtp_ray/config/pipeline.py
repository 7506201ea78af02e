"""Configuration of `jobs/pipeline.py`: which jobs, one after another, with which configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from wmtp_ray.config.base import Section
from wmtp_ray.config.run import StorageConfig


class StageConfig(Section):
    """One job."""

    job: Annotated[str, Field(pattern=r"^[a-z_0-9]+$")]
    """`critic` for `jobs/critic.py`."""
    config: Path
    """Its configuration, from the checkout's root."""
    overrides: tuple[str, ...] = ()
    """Changes to it, `key.sub=value` as on the command line; `storage.root` is added."""
    minutes: PositiveFloat | None = None
    """What it takes on 2 cores, for the time left that is shown."""


class PipelineConfig(Section):
    """`jobs/pipeline.py`."""

    storage: StorageConfig = StorageConfig()
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    summary: str | None = None
    """Name of the runs whose results are shown in one table at the end: of critic, baseline, verifiable, evaluate."""
    dashboard_port: PositiveInt = 8265
    """Of the local Ray that is started where RAY_ADDRESS names none."""
    logical_cpus: PositiveInt = 4
    """Of the local Ray. More than the machine has, so that read tasks find a place beside workers and critics that
    wait."""
