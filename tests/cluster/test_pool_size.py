"""A pool grows while somebody waits for it, shrinks when nobody does, and its scores stay the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from actors.board import WorkerLoad
from tests.models.batches import random_samples
from tests.models.test_value_model import trained
from tests.tiny import save_tiny_model
from wmtp_ray.cluster import pool_size
from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.score_ahead import ScoreAhead
from wmtp_ray.cluster.scoring import NAMESPACE, ScorePool, ScorerUse
from wmtp_ray.config.weighting import CriticPoolConfig
from wmtp_ray.data.batch import pack
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.planned import PlannedMicroBatch
from wmtp_ray.models.score_engine import load_engine
from wmtp_ray.models.scorer import join_values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NOTHING = np.zeros(0)
PLANNED = PlannedMicroBatch((), NOTHING, NOTHING, NOTHING, NOTHING)


def micro_batch(seed: int) -> MicroBatch:
    return MicroBatch(0, PLANNED, pack(random_samples(49152, seed), 0))


def test_a_pool_follows_the_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_size, "LOOK_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(pool_size, "QUIET_SECONDS", 2.0)
    model = save_tiny_model(tmp_path / "model")
    trained(model, head="linear").save(tmp_path / "critic", {})
    config = CriticPoolConfig(path=str(tmp_path / "critic"), actors=(1, 2), cpus_per_actor=0.5, window=3)
    use = ScorerUse("critic", (tmp_path / "critic",), tmp_path / "models", tmp_path / "s.sqlite", config)
    pause = 0.0
    seen: list[int] = []

    def steps() -> Iterator[list[MicroBatch]]:
        for seed in range(10_000):
            yield [micro_batch(seed)]

    with connected({"CPU": 2}), closing(ScorePool("test", use)) as pool:
        board = ray.get_actor(pool.access.boards[0], namespace=NAMESPACE)
        ahead = ScoreAhead(pool.access, tmp_path)
        own = load_engine(replace(use.engines()[0]), torch.device("cpu"), 1)
        deadline = time.monotonic() + 180
        for [scored] in ahead(steps()):
            if len(seen) % 20 == 0:
                expected = join_values(own.score(scored.batch), scored.batch)
                assert scored.values_RT is not None
                torch.testing.assert_close(scored.values_RT, expected, rtol=1e-5, atol=1e-5)
            names = pool.names
            if len(names) == 2 and not pause:
                pause = 0.3  # training is slow now: nobody waits
                # The last word of a worker that died with a call to the added actor under way.
                ray.get(board.report.remote(1, 2, WorkerLoad(0.0, {names[1]: 1}, names)))
            seen.append(len(names))
            if 2 in seen and seen[-1] == 1:
                break
            assert time.monotonic() < deadline, seen
            time.sleep(pause)
        assert 2 in seen and seen[-1] == 1
        assert ahead.samples >= 5 * len(seen) and ahead.cached_samples == 0
        assert pool.counts().stored_batches >= len(seen)
