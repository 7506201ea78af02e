"""The part of a policy job that runs inside a worker, whatever weights its tokens: build, export."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wmtp_ray.cluster.train import CriticUse
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.scorer import segments_of
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.storage import write_manifest
from wmtp_ray.storage.runs import RunDirectory, run_path
from wmtp_ray.training.batch import MicroBatch
from wmtp_ray.training.policy_objective import WeightedMTPObjective
from wmtp_ray.value_weighting.methods import build_method

SHOWN_SAMPLES = 3


@dataclass(frozen=True)
class PolicySide:
    """Builds the policy with its weighted loss; exports what users take away."""

    config: PolicyJobConfig

    def build(self, device: torch.device) -> WeightedMTPObjective:
        """The policy on its backbone, and the weighting method that the configuration names."""
        config = self.config
        model = MTPPolicy.from_config(
            config.model, seed=config.seed, cache_dir=config.storage.root / "models"
        )
        return WeightedMTPObjective(
            model.to(device),
            build_method(config.weighting),
            config.weighting,
            config.loss,
            eos_token_id=eos_id(load_tokenizer(model.source)),
            detach_extra_heads=config.model.trunk_gradient == "detached",
            head_warmup_steps=config.model.head_warmup_steps,
            device=device,
        )

    def export(self, objective: WeightedMTPObjective, run: RunDirectory, held_out: list[MicroBatch]) -> None:
        """`export/model`: head 1 as a plain Hugging Face model; `export/adapter`: the same as a PEFT adapter, where the
        base stayed frozen; `weights_sample.json`: weights of a few held-out samples, for the report."""
        policy = objective.model
        policy.export_hf(run.export / "model")
        if self.config.model.lora is not None:
            policy.save_adapter(run.export / "adapter")
        write_manifest(run.export, "policy", model=self.config.model.model_dump(mode="json"))
        run.write(
            "weights_sample.json",
            json.dumps({"samples": _token_weights(objective, policy.source, held_out)}, indent=1),
        )


def critic_use(config: PolicyJobConfig) -> CriticUse | None:
    """The frozen critic that the configuration names, if any."""
    critic, root = config.critic, config.storage.root
    if critic is None:
        return None
    directory = (
        Path(critic.path).expanduser()
        if critic.path
        else run_path(root, "critic", str(critic.run)) / "export"
    )
    return CriticUse(directory, root / "models", root / "cache" / f"{critic.cache}.sqlite", critic)


@torch.no_grad()
def _token_weights(
    objective: WeightedMTPObjective, source: Path, held_out: list[MicroBatch]
) -> list[dict[str, Any]]:
    """Response tokens of the first held-out samples with value, advantage and weight."""
    tokenizer = load_tokenizer(source)
    samples: list[dict[str, Any]] = []
    for micro_batch in held_out:
        batch, values_RT = micro_batch.batch, micro_batch.values_RT
        signal_RT = objective.method.signal(batch, values_RT)
        if signal_RT is None or values_RT is None:
            return []
        weights_RT = objective.weigh(batch, signal_RT)
        for sample_id, s in zip(batch.sample_ids.tolist(), segments_of(batch), strict=True):
            if len(samples) == SHOWN_SAMPLES:
                return samples
            response = slice(s.response_start, s.end)
            samples.append(
                {
                    "sample_id": sample_id,
                    "tokens": [
                        tokenizer.decode([token]) for token in batch.input_ids[s.row, response].tolist()
                    ],
                    "values": values_RT[s.row, response].tolist(),
                    "advantages": signal_RT[s.row, response].tolist(),
                    "weights": weights_RT[s.row, response].tolist(),
                }
            )
    return samples
