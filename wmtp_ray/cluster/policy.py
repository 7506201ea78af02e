"""The part of a policy job that runs inside a worker, whatever weights its tokens: build, export."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wmtp_ray.cluster.scoring import ScorerUse
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.critic import fold_runs
from wmtp_ray.config.weighting import (
    CriticObjectiveKind,
    CriticPoolConfig,
    CriticWeighting,
    ScorePoolConfig,
    WeightingBase,
)
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.data.segments import segments_of
from wmtp_ray.errors import ConfigError
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.models.value_model import read_card
from wmtp_ray.storage import write_manifest
from wmtp_ray.storage.runs import RunDirectory, run_path
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
        directories = critic_directories(config.critic, config.storage.root) if config.critic else ()
        model = MTPPolicy.from_config(
            config.model, seed=config.seed, cache_dir=config.storage.root / "models"
        )
        eos = eos_id(load_tokenizer(model.source))
        objectives: set[CriticObjectiveKind] = {critic_objective(d) for d in directories} or {"ranking"}
        if len(objectives) > 1:
            raise ConfigError(
                f"the critics of the folds were trained for {sorted(objectives)}; train them alike"
            )
        method = build_method(config.weighting, eos, objectives.pop(), max(len(directories), 1))
        return WeightedMTPObjective(
            model.to(device),
            method,
            config.weighting,
            config.loss,
            eos_token_id=eos,
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


def scorer_use(config: PolicyJobConfig) -> ScorerUse | None:
    """The frozen model that the configuration names, if any. `ConfigError` for a discount or rewards that the critic's
    values do not allow."""
    root = config.storage.root
    if config.reference is not None:
        named = config.reference
        directory = (
            Path(named.path).expanduser()
            if named.path
            else run_path(root, "ref_tuning", str(named.run)) / "export" / "model"
        )
        return ScorerUse("reference", (directory,), root / "models", cache_file(root, named), named)
    if config.critic is None:
        return None
    directories = critic_directories(config.critic, root)
    _refuse_undiscountable(config.weighting, directories)
    return ScorerUse("critic", directories, root / "models", cache_file(root, config.critic), config.critic)


def critic_directories(critic: CriticPoolConfig, root: Path) -> tuple[Path, ...]:
    """Where the critic lies, or the critic of each fold."""
    if critic.path:
        return (Path(critic.path).expanduser(),)
    names = fold_runs(str(critic.run), critic.folds) if critic.folds else [str(critic.run)]
    return tuple(run_path(root, "critic", name) / "export" for name in names)


def critic_objective(directory: Path) -> CriticObjectiveKind:
    """What an exported critic was trained for."""
    objective = read_card(directory).training_config.get("objective", {})
    return objective.get("method", "ranking")


def _refuse_undiscountable(weighting: WeightingBase, directories: tuple[Path, ...]) -> None:
    if not isinstance(weighting, CriticWeighting) or (weighting.gamma == 1 and not weighting.rewards):
        return
    for directory in directories:
        if critic_objective(directory) == "ranking":
            raise ConfigError(
                f"weighting.gamma = {weighting.gamma}, weighting.rewards = {weighting.rewards}: the values of the "
                f"ranking critic {directory} have neither scale nor offset; set gamma to 1 and rewards to false, or "
                "use a critic trained with objective.method=lambda_return"
            )


def cache_file(root: Path, pool: ScorePoolConfig) -> Path:
    """Where the pool's scores are kept."""
    return root / "cache" / f"{pool.cache}.sqlite"


@torch.no_grad()
def _token_weights(
    objective: WeightedMTPObjective, source: Path, held_out: list[MicroBatch]
) -> list[dict[str, Any]]:
    """Response tokens of the first held-out samples with value, advantage and weight."""
    tokenizer = load_tokenizer(source)
    samples: list[dict[str, Any]] = []
    for micro_batch in held_out:
        batch, values_RT = micro_batch.batch, micro_batch.values_RT
        signal_RT = objective.method.signal(micro_batch)
        if signal_RT is None or values_RT is None:
            return []
        weights_RT = objective.token_weights(micro_batch)
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
