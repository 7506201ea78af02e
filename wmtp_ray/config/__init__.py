"""Configuration: pydantic models, one file per job."""

from wmtp_ray.config.model import BackboneConfig, LoRAConfig, PolicyConfig, ValueModelConfig

__all__ = ["BackboneConfig", "LoRAConfig", "PolicyConfig", "ValueModelConfig"]
