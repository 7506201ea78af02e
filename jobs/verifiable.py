"""Train the MTP policy with each token weighted by a frozen critic's advantage: WMTP.

Train workers read packed micro-batches in plan order and ask a pool of critic actors for their values ahead of time;
weight = clip(exp(whitened advantage / beta)), whitened by statistics over the whole step. Controls that take the
insight out of the same weights (`weighting.method: circular_shift`, ...) run through this job, too.

Unlike the proposal: values are cached, so a second epoch or run costs no critic forward; statistics and target counts
are those of the whole step on all workers, known before its first backward.

    python jobs/verifiable.py --config configs/quickstart/verifiable.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/verifiable.py --config configs/production/verifiable.yaml
"""

from __future__ import annotations

from wmtp_ray.cluster.job import run_training_job
from wmtp_ray.cluster.policy import PolicySide, scorer_use
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.errors import ConfigError

ELSEWHERE = {"uniform": "jobs/baseline.py", "rho1": "jobs/rho1.py"}
"""Methods with a job of their own."""


def run(config: PolicyJobConfig, flags: Flags) -> None:
    """Train and export the critic-weighted policy that `config` describes."""
    if (method := config.weighting.method) in ELSEWHERE:
        raise ConfigError(
            f"weighting.method = {method}: set it to critic or one of its controls, or use {ELSEWHERE[method]}"
        )
    run_training_job("verifiable", config, PolicySide(config), flags, scorer_use(config))


if __name__ == "__main__":
    run_command(PolicyJobConfig, run, __doc__)
