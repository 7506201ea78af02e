"""Join the Ray cluster that the user means: the one in RAY_ADDRESS (set inside every submitted job), or a local one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from wmtp_ray.cluster.scoring import NAMESPACE
from wmtp_ray.errors import InfraError

QUIET_WORKERS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}


@contextmanager
def connected(logical_cpus: float) -> Iterator[None]:
    """Inside, this process is a Ray driver. A local Ray gets `logical_cpus` CPUs at least, since a job whose workers,
    critics and read tasks do not all fit would wait for ever; on an existing cluster too few are an `InfraError`.
    Inside another `connected`, its connection is used and left as it is."""
    if ray.is_initialized():
        _require(logical_cpus)
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault(
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", QUIET_WORKERS["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"]
    )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": QUIET_WORKERS},
            )
        else:
            ray.init(
                address="local",
                namespace=NAMESPACE,
                num_cpus=max(os.cpu_count() or 1, int(logical_cpus + 0.999)),
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False,
                runtime_env={"env_vars": QUIET_WORKERS},
            )
    except Exception as error:  # Ray raises just that where its node does not start in time
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InfraError(
            f"cannot join the Ray cluster at {address or 'local'}: {reason}; start one with `ray start --head` "
            "(the same Ray and Python versions) or unset RAY_ADDRESS"
        ) from error
    try:
        _require(logical_cpus)
        yield
    finally:
        ray.shutdown()


def _require(logical_cpus: float) -> None:
    available = ray.cluster_resources().get("CPU", 0.0)
    if available < logical_cpus:
        raise InfraError(
            f"the job needs {logical_cpus:g} logical CPUs and the cluster has {available:g}; start Ray with "
            f"--num-cpus={int(logical_cpus + 0.999)} (logical CPUs may exceed real ones) or lower "
            "cluster.num_workers, critic.actors or their cpus"
        )
