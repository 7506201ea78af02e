"""The stages of a pipeline, checked before the first of them starts."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import get_type_hints

from wmtp_ray.config.load import load_config
from wmtp_ray.config.pipeline import PipelineConfig
from wmtp_ray.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parent.parent


def check_stages(config: PipelineConfig) -> None:
    """Every stage is a job and has a valid configuration; `ConfigError` names the first that is not."""
    for stage in config.stages:
        try:
            job = import_module(f"jobs.{stage.job}")
            model = get_type_hints(job.run)["config"]
        except (ModuleNotFoundError, AttributeError):
            raise ConfigError(f"stages: there is no jobs/{stage.job}.py that takes a configuration") from None
        load_config(model, CHECKOUT / stage.config, stage.overrides)
