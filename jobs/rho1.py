"""Train the MTP policy only on the tokens whose loss exceeds a reference model's the most: Rho-1, per head.

Unlike the proposal: the reference's losses are scored ahead by a pool of actors and cached as critic values are; each
head keeps exactly the share `weighting.k_percent` of its targets in each planned micro-batch, whatever the workers.

    python jobs/rho1.py --config configs/quickstart/rho1.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/rho1.py --config configs/production/rho1.yaml
"""

from __future__ import annotations

from wmtp_ray.cluster.job import run_training_job
from wmtp_ray.cluster.policy import PolicySide, scorer_use
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.errors import ConfigError


def run(config: PolicyJobConfig, flags: Flags) -> None:
    """Train and export the policy that `config` describes."""
    if config.weighting.method != "rho1":
        raise ConfigError(f"weighting.method = {config.weighting.method}: set it to rho1, or use another job")
    run_training_job("rho1", config, PolicySide(config), flags, scorer_use(config))


if __name__ == "__main__":
    run_command(PolicyJobConfig, run, __doc__)
