"""Training on Ray against a bare PyTorch loop that does the same steps, and what scoring ahead and its cache save.

The policy is a random Llama of 6 layers and width 128 with SmolLM2's vocabulary and 2 heads, on HumanEval's programs.
The critic gets as many layers as make its forward passes take 0.8 of a training step. Trainer and critic have a thread
each. The first steps of a run, in which the window fills, are left out of ratios. Medians over steps, so that a busy
machine spoils few of them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.figure import Figure
from benchmarks.training_scene import HELD_OUT, MICRO_BATCHES, STEPS, Scene, bare_loop, run_job
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
    step_seconds, scoring = scene.make_critic(batches[:12])
    yield Figure(
        "critic_forward_per_step",
        scoring / step_seconds,
        "of a training step",
        counterpart=f"a step {1000 * step_seconds:.0f} ms, the critic's forward passes {1000 * scoring:.0f} ms",
        target="0.7..0.9",
    )

    plan = {"micro_batches_per_step": MICRO_BATCHES, "samples_per_micro_batch": 1}
    data = {"plan": plan | {"epochs": 2}}
    first, first_result = run_job(scene, scene.job("first", data=data))
    yield from _overlap(first[:STEPS][FIRST:], scoring, step_seconds)
    expected = STEPS * MICRO_BATCHES + HELD_OUT
    forwards = first_result["critic_forwards"]
    yield Figure(
        "second_epoch_critic_forwards",
        forwards - expected,
        "forwards",
        counterpart=f"{expected} in the first epoch and validation",
        target="== 0",
    )

    before = [*bare_loop(scene, batches)][FIRST:]
    second, second_result = run_job(scene, scene.job("second"))
    yield Figure(
        "second_run_critic_forwards",
        second_result["critic_forwards"],
        "forwards",
        counterpart=f"{forwards} in the first run",
        target="== 0",
    )
    after = [*bare_loop(scene, batches)][FIRST:]
    bare = statistics.median(before + after)
    on_ray = statistics.median(r["seconds"] for r in second[FIRST:])
    yield Figure(
        "ray_vs_bare_loop",
        bare / on_ray,
        "x speed",
        counterpart=f"a step {1000 * bare:.0f} ms in a bare loop before and after, {1000 * on_ray:.0f} ms on Ray",
        target=">= 0.95",
    )
    yield from _two_workers(scene, second)


def _overlap(records: Records, scoring: float, training: float) -> Iterator[Figure]:
    seconds = sum(r["seconds"] for r in records)
    waited = sum(r["score_wait_seconds"] for r in records)
    yield Figure(
        "score_wait_share",
        waited / seconds,
        "of training's time",
        counterpart=f"{len(records)} steps with an empty cache in {seconds:.1f} s, {waited:.2f} s of them waiting",
        target="< 0.05",
    )
    overlapped = statistics.median(r["seconds"] for r in records)
    serial = training + scoring
    yield Figure(
        "overlap_vs_serial",
        overlapped / serial,
        "x time",
        counterpart=f"a step {1000 * serial:.0f} ms scored, then trained; {1000 * overlapped:.0f} ms with both at once",
        target="< 0.8",
    )


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
