"""Training on Ray against a bare PyTorch loop that does the same steps, and what scoring ahead and its cache save.

The policy is a random Llama of 6 layers and width 128 with SmolLM2's vocabulary and 2 heads, on HumanEval's programs.
The critic gets as many layers as make its forward passes take 0.8 of a training step. Trainer and critic have a thread
each. The first steps of a run, in which the window fills, are left out. What a ratio compares with is measured
before and after, step by step, and the ratio is the median over steps, so that a busy machine spoils few of them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.figure import Figure
from benchmarks.training_scene import (
    HELD_OUT,
    MICRO_BATCHES,
    STEPS,
    Scene,
    Turns,
    bare_loop,
    in_turns,
    mean_by_step,
    run_job,
)
from wmtp_ray.data.batch import PackedBatch

FIRST = 4
COMPARED_STEPS = 20
Records = list[dict[str, Any]]


def figures() -> Iterator[Figure]:
    """A first run of two epochs, a second run on the same scores, and one of two workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="wmtp-bench-") as folder:
            scene = Scene.make(Path(folder))
            yield from _measured(scene, scene.batches())
    finally:
        torch.set_num_threads(threads)


def _measured(scene: Scene, batches: list[list[PackedBatch]]) -> Iterator[Figure]:
    critic = scene.make_critic(batches[:12])
    before = in_turns(bare_loop(scene, batches), critic, batches)
    plan = {"micro_batches_per_step": MICRO_BATCHES, "samples_per_micro_batch": 1}
    first, first_result = run_job(scene, scene.job("first", data={"plan": plan | {"epochs": 2}}))
    serial = before + in_turns(bare_loop(scene, batches), critic, batches)
    yield from _overlap(first[:STEPS][FIRST:], serial)
    expected = STEPS * MICRO_BATCHES + HELD_OUT
    forwards = first_result["critic_forwards"]
    yield Figure(
        "second_epoch_critic_forwards",
        forwards - expected,
        "forwards",
        counterpart=f"{expected} in the first epoch and validation",
        target="== 0",
    )

    bare = [*bare_loop(scene, batches)]
    second, second_result = run_job(scene, scene.job("second"))
    yield Figure(
        "second_run_critic_forwards",
        second_result["critic_forwards"],
        "forwards",
        counterpart=f"{forwards} in the first run",
        target="== 0",
    )
    bare = mean_by_step(bare, [*bare_loop(scene, batches)])
    on_ray = [r["seconds"] for r in second]
    yield Figure(
        "ray_vs_bare_loop",
        _median_ratio(bare[FIRST:], on_ray[FIRST:]),
        "x speed",
        counterpart=f"{len(on_ray) - FIRST} steps in {sum(bare[FIRST:]):.1f} s in a bare loop (mean of one before and "
        f"one after), {sum(on_ray[FIRST:]):.1f} s on Ray",
        target=">= 0.95",
    )
    yield from _two_workers(scene, second)


def _overlap(records: Records, serial: Turns) -> Iterator[Figure]:
    training, scoring = serial.training[FIRST:], serial.scoring[FIRST:]
    yield Figure(
        "critic_forward_per_step",
        serial.share(slice(FIRST, None)),
        "of a training step",
        counterpart=f"{len(training)} steps: training {sum(training):.1f} s, the critic's forward passes "
        f"{sum(scoring):.1f} s",
        target="0.7..0.9",
    )
    overlapped = [r["seconds"] for r in records]
    waited = sum(r["score_wait_seconds"] for r in records)
    yield Figure(
        "score_wait_share",
        waited / sum(overlapped),
        "of training's time",
        counterpart=f"{len(records)} steps with an empty cache in {sum(overlapped):.1f} s, {waited:.2f} s of them "
        "waiting",
        target="< 0.05",
    )
    both = [a + b for a, b in zip(training, scoring, strict=True)]
    yield Figure(
        "overlap_vs_serial",
        _median_ratio(overlapped, both),
        "x time",
        counterpart=f"the same {len(both)} steps: {sum(both):.1f} s scored, then trained; {sum(overlapped):.1f} s with "
        "both at once",
        target="< 0.8",
    )


def _median_ratio(these: list[float], those: list[float]) -> float:
    """Over steps, each compared with itself: steps differ in length."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def _two_workers(scene: Scene, one: Records) -> Iterator[Figure]:
    two, _ = run_job(scene, scene.job("two", cluster={"num_workers": 2}))
    pairs = list(zip(one, two, strict=True))[:COMPARED_STEPS]
    speeds = [statistics.median(r["tokens_per_second"] for r in run[FIRST:]) for run in (one, two)]
    yield Figure(
        "two_workers_loss_difference",
        max(abs(a["loss"] - b["loss"]) for a, b in pairs),
        "nats",
        counterpart=f"1 worker, {len(pairs)} steps, losses about {one[0]['loss']:.2f}",
        target="<= 1e-5",
    )
    yield Figure(
        "two_workers_speed",
        speeds[1] / speeds[0],
        "x tokens/s",
        counterpart=f"1 worker {speeds[0]:.0f} tokens/s, 2 workers {speeds[1]:.0f}",
    )
