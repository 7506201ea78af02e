"""What one writes in twenty lines: the same critic behind FastAPI, a request at a time. Counterpart of `service`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI

from serve.critic import ServedCritic
from serve.samples import Preparer
from wmtp_ray.client.wire import PromptItem
from wmtp_ray.config.serve import ServedCriticConfig, ServeLimitsConfig

torch.set_num_threads(1)
critic = ServedCritic.load(ServedCriticConfig(run="benchmark"), Path(os.environ["WMTP_BENCHMARK_ROOT"]))
preparer = Preparer(critic, ServeLimitsConfig())
app = FastAPI()


@app.post("/score")
async def score(item: PromptItem) -> dict[str, Any]:
    """Values of one item."""
    (prepared,) = preparer.items([item], truncate=False)
    values = critic.score_rows([[prepared.sample]])[0]
    return {"values": values.tolist(), "tokens": len(prepared.sample.token_ids)}
