"""Learning-rate schedules: a linear warm-up, then cosine, linear or constant; never a restart past the end."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from wmtp_ray.config.run import ScheduleConfig


def rate_factor(step: int, total_steps: int, config: ScheduleConfig) -> float:
    """The factor on the base learning rate at optimizer step `step` (0-based) of `total_steps`.

    Warm-up over ⌈warmup_share · total_steps⌉ steps: (step+1)/(warmup+1). Then from 1 towards 0 at `total_steps`.
    Example: 10 steps, no warm-up, linear: 1.0, 0.9, ..., 0.1, and 0 for any later step.
    """
    warmup = math.ceil(round(config.warmup_share * total_steps, 6))  # 0.07 * 100 is a little more than 7
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.shape == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return 1.0 - progress if config.shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def build_schedule(
    optimizer: Optimizer, total_steps: int, config: ScheduleConfig, steps_done: int = 0
) -> LambdaLR:
    """The schedule of every parameter group of `optimizer` as it stands after `steps_done` steps, each relative to the
    group's own learning rate (`lr`)."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return LambdaLR(optimizer, lambda step: rate_factor(step, total_steps, config), last_epoch=steps_done - 1)
