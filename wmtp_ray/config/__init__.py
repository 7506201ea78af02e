"""Configuration: pydantic models, one YAML file per job, dotted overrides."""

from wmtp_ray.config.jobs import CriticJobConfig, DataConfig, JobConfig, PolicyJobConfig, TrainingJobConfig
from wmtp_ray.config.load import dump_yaml, load_config
from wmtp_ray.config.model import BackboneConfig, LoRAConfig, PolicyConfig, ValueModelConfig

__all__ = [
    "BackboneConfig",
    "CriticJobConfig",
    "DataConfig",
    "JobConfig",
    "LoRAConfig",
    "PolicyConfig",
    "PolicyJobConfig",
    "TrainingJobConfig",
    "ValueModelConfig",
    "dump_yaml",
    "load_config",
]
