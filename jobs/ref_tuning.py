"""Train the reference model of Rho-1: plain next-token training on correct solutions, the best step by validation.

It is the uniform baseline with one head; a policy with `weighting.method: rho1` compares its losses with this model's.

    python jobs/ref_tuning.py --config configs/quickstart/ref_tuning.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/ref_tuning.py --config configs/production/ref_tuning.yaml
"""

from __future__ import annotations

from wmtp_ray.cluster.job import run_training_job
from wmtp_ray.cluster.policy import PolicySide
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.errors import ConfigError


def run(config: PolicyJobConfig, flags: Flags) -> None:
    """Train and export the reference model that `config` describes."""
    wanted = {
        "weighting.method": (config.weighting.method, "uniform"),
        "model.num_heads": (config.model.num_heads, 1),
        "data.sampling.solutions": (config.data.sampling.solutions, "correct"),
        "checkpoint.export": (config.checkpoint.export, "best"),
    }
    for key, (found, needed) in wanted.items():
        if found != needed:
            raise ConfigError(f"{key} = {found}: a reference model is trained with {needed}")
    run_training_job("ref_tuning", config, PolicySide(config), flags)


if __name__ == "__main__":
    run_command(PolicyJobConfig, run, __doc__)
