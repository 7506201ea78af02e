"""What Ray Train's controller is handed. It runs in a process of its own, before any worker, and loads this module:
nothing here imports PyTorch or transformers, and what a worker needs is opened by the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.train.v2.api.callback import UserCallback

from wmtp_ray.storage.runs import RunDirectory


def train_loop(config: dict[str, Any]) -> None:
    """Of one worker; `config["spec"]` is a pickled `WorkerSpec`."""
    from ray import cloudpickle

    from wmtp_ray.cluster.worker import train_worker

    train_worker(cloudpickle.loads(config["spec"]))


class Deaths(UserCallback):
    """Says in one line which worker died, and what is done about it."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        run = RunDirectory(self._run)
        if run.failure is not None:  # not a death, and told by the driver
            return
        for rank, error in sorted(worker_exceptions.items()):
            reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
            run.notice(
                f"train worker {rank} is gone ({type(error).__name__}: {reason.strip()[:200]}); all workers start "
                "again from the newest checkpoint, at most cluster.max_failures times"
            )
