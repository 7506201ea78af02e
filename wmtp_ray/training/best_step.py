"""The step that validation found best so far, by `checkpoint.best_metric`."""

from __future__ import annotations

from pathlib import Path

from wmtp_ray.config.run import CheckpointConfig
from wmtp_ray.errors import ConfigError
from wmtp_ray.training.checkpoint import BestStep, has_step
from wmtp_ray.training.objective import Metrics


class BestSoFar:
    """Remembers the best step; a NaN never is one."""

    def __init__(self, config: CheckpointConfig) -> None:
        self._config = config
        self.found: BestStep | None = None

    def value_in(self, validation: Metrics) -> float:
        """The metric that decides; `ConfigError` where there is no such metric."""
        name = self._config.best_metric
        value = validation.get(name)
        if not isinstance(value, int | float):
            there_are = sorted(k for k, v in validation.items() if isinstance(v, int | float))
            raise ConfigError(
                f"checkpoint.best_metric = {name} is no metric of validation; there are {there_are}"
            )
        return value

    def note(self, step: int, validation: Metrics) -> bool:
        """Whether the validation after `step` is the best so far, which is then remembered."""
        value = self.value_in(validation)
        sign = 1 if self._config.best_is == "lowest" else -1
        improved = sign * value < (sign * self.found.value if self.found else float("inf"))
        if improved:
            self.found = BestStep(
                step=step, value=value, metric=self._config.best_metric, best_is=self._config.best_is
            )
        return improved

    def take_up(self, best: BestStep | None, checkpoints: Path) -> str | None:
        """Go on with the best step of a checkpoint; or say why not: its own checkpoint may be damaged or have given way
        to a later one that was found damaged, or it may be the best by another metric."""
        if best is None:
            return None
        if (best.metric, best.best_is) != (self._config.best_metric, self._config.best_is):
            return f"the best step so far was that by {best.metric}; the best is sought anew"
        if not has_step(checkpoints, best.step):
            return f"the best checkpoint so far, of step {best.step}, is gone or damaged; the best is sought anew"
        self.found = best
        return None
