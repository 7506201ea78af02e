"""Train the MTP policy with every token weighing the same: what weighting has to beat.

Unlike the proposal: the mean over targets is taken over the whole optimizer step, so that the loss does not depend on
micro-batches or workers; the weighted loss is the one code path, here with weights 1.

    python jobs/baseline.py --config configs/quickstart/baseline.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/baseline.py --config configs/production/baseline.yaml
"""

from __future__ import annotations

from wmtp_ray.cluster.job import run_training_job
from wmtp_ray.cluster.policy import PolicySide
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.errors import ConfigError


def run(config: PolicyJobConfig, flags: Flags) -> None:
    """Train and export the uniformly weighted policy that `config` describes."""
    if config.weighting.method != "uniform":
        raise ConfigError(
            f"weighting.method = {config.weighting.method}: the baseline is uniform; set it, or use "
            "jobs/verifiable.py or jobs/rho1.py"
        )
    run_training_job("baseline", config, PolicySide(config), flags)


if __name__ == "__main__":
    run_command(PolicyJobConfig, run, __doc__)
