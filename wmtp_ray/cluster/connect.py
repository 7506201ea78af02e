"""Join the Ray cluster that the user means: the one in RAY_ADDRESS (set inside every submitted job), or a local one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import ray

from wmtp_ray.cluster.resources import Resources
from wmtp_ray.cluster.scoring import NAMESPACE
from wmtp_ray.errors import InfraError

WORKER_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A process that asked for no GPU sees none; otherwise it would take the first one, which is another's.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}


@contextmanager
def connected(needed: Resources) -> Iterator[None]:
    """Inside, this process is a Ray driver. A job whose workers, critics and read tasks do not all fit would wait for
    ever: a local Ray therefore gets as many logical CPUs as `needed` at least, and too little of anything else, or of
    an existing cluster, is an `InfraError`. Inside another `connected`, its connection is used and left as it is."""
    if ray.is_initialized():
        _require(needed)
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault(
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", WORKER_ENVIRONMENT["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"]
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
                runtime_env={"env_vars": WORKER_ENVIRONMENT},
            )
        else:
            ray.init(
                address="local",
                namespace=NAMESPACE,
                num_cpus=max(os.cpu_count() or 1, ceil(needed.get("CPU", 0.0))),
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False,
                runtime_env={"env_vars": WORKER_ENVIRONMENT},
            )
    except Exception as error:  # Ray raises just that where its node does not start in time
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InfraError(
            f"cannot join the Ray cluster at {address or 'local'}: {reason}; start one with `ray start --head` "
            "(the same Ray and Python versions) or unset RAY_ADDRESS"
        ) from error
    try:
        _require(needed)
        yield
    finally:
        ray.shutdown()


def _require(needed: Resources) -> None:
    there = ray.cluster_resources()
    for name, amount in needed.items():
        if there.get(name, 0.0) >= amount:
            continue
        what = {"CPU": "logical CPUs", "GPU": "GPUs"}.get(name, f"of the resource {name}")
        more = (
            f"start Ray with --num-cpus={ceil(amount)} (logical CPUs may exceed real ones)"
            if name == "CPU"
            else "add nodes"
        )
        raise InfraError(
            f"the job needs {amount:g} {what} and the cluster has {there.get(name, 0.0):g}; {more} or lower "
            "cluster.num_workers, critic.actors or what each takes"
        )
