"""The service's numbers are those of training for the same critic and text: store, plan, steps, EMA, weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fastapi.testclient import TestClient
from torch import Tensor

from tests.cluster.tiny_jobs import tiny_root
from tests.serve.conftest import save_critic, served, service_config
from tests.serve.test_api import ask
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.weighting import CriticWeighting
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.plan import make_plan
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.models.scorer import join_values, score, segments_of
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.value_weighting import AdvantageEMA, AdvantageSums, build_weights, compute_gae_advantage

WEIGHTING = CriticWeighting(first_token="zero", lam=0.9, beta=0.7)


def test_values_advantages_and_weights_equal_trainings(tmp_path: Path) -> None:
    tiny_root(tmp_path)
    save_critic(tmp_path, "quickstart", 5, model=tmp_path / "model")
    model = ValueModel.load(tmp_path / "runs" / "critic-quickstart" / "export")
    tokenizer = load_tokenizer(model.source)
    store = SolutionStore.open(tmp_path / "stores" / "tiny")
    plan = make_plan(
        store,
        SamplingConfig(solutions="correct", split="train"),
        PlanConfig(
            epochs=1, max_steps=3, micro_batches_per_step=2, samples_per_micro_batch=4, row_tokens=256
        ),
    )
    ema = AdvantageEMA(WEIGHTING.ema_momentum, WEIGHTING.ema_warmup_steps)
    with served(service_config(tmp_path, critic={"threads": torch.get_num_threads()})) as api:
        for step in plan.steps():
            batches = [load_micro_batch(store, tokenizer, planned) for planned in step.micro_batches]
            scored = [join_values(score(model, batch, torch.device("cpu")), batch) for batch in batches]
            advantages = [_advantages(values, batch) for values, batch in zip(scored, batches, strict=True)]
            sums = (AdvantageSums.of(a, b.response_mask) for a, b in zip(advantages, batches, strict=True))
            ema.update_from_sums(sum(sums, AdvantageSums()))
            for batch, values_RT, advantages_RT in zip(batches, scored, advantages, strict=True):
                _compare(api, store, batch, values_RT, advantages_RT, ema)


def _advantages(values_RT: Tensor, batch: PackedBatch) -> Tensor:
    return compute_gae_advantage(
        values_RT,
        None,
        batch.response_mask,
        lam=WEIGHTING.lam,
        first_token="zero",
        segment_ids=batch.segment_ids,
    )


def _compare(
    api: TestClient,
    store: SolutionStore,
    batch: PackedBatch,
    values_RT: Tensor,
    advantages_RT: Tensor,
    ema: AdvantageEMA,
) -> None:
    weights_RT = build_weights(
        advantages_RT, batch.response_mask, WEIGHTING.beta, external_mean=ema.mean, external_std=ema.std
    )
    rows = store.read(batch.sample_ids.tolist())
    items = [{"instruction": row.instruction, "input": row.input, "response": row.output} for row in rows]
    options = {
        "lam": WEIGHTING.lam,
        "beta": WEIGHTING.beta,
        "statistics": "given",
        "mean": ema.mean,
        "std": ema.std,
    }
    answer = ask(api, items, **options)
    for item, segment in zip(answer.items, segments_of(batch), strict=True):
        part = slice(segment.response_start, segment.end)
        assert [t.token_id for t in item.tokens] == batch.input_ids[segment.row, part].tolist()
        for name, trained_RT in (("value", values_RT), ("advantage", advantages_RT), ("weight", weights_RT)):
            ours = np.array([getattr(token, name) for token in item.tokens])
            np.testing.assert_allclose(ours, trained_RT[segment.row, part].numpy(), atol=1e-5, rtol=0)
