"""The part of a policy job that runs inside a worker, whatever weights its tokens: build, export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

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
from wmtp_ray.data.segments import Segment, segments_of
from wmtp_ray.errors import ConfigError
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.models.value_model import read_card
from wmtp_ray.storage import write_manifest
from wmtp_ray.storage.runs import RunDirectory, run_path
from wmtp_ray.training.policy_objective import WeightedMTPObjective
from wmtp_ray.value_weighting.methods import build_method
from wmtp_ray.value_weighting.places import WeightPlaces
from wmtp_ray.value_weighting.token_classes import token_cells

SHOWN_SAMPLES = 3
"""Held-out samples that the report draws token by token."""
MEASURED_SAMPLES = 500
"""Held-out samples whose weights are added up by place."""


@dataclass(frozen=True)
class PolicySide:
    """Builds the policy with its weighted loss; exports what users take away."""

    config: PolicyJobConfig
    merged: bool = True
    """Whether the merged model is exported beside the adapter, where there is one."""

    def build(self, device: torch.device, backbone: Path) -> WeightedMTPObjective:
        """The policy on its backbone, and the weighting method that the configuration names."""
        config = self.config
        directories = critic_directories(config.critic, config.storage.root) if config.critic else ()
        model = MTPPolicy.from_config(config.model, backbone, seed=config.seed)
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

    def export(
        self, objective: WeightedMTPObjective, run: RunDirectory, held_out: Iterator[MicroBatch]
    ) -> None:
        """`export/model`: head 1 as a plain Hugging Face model; `export/adapter`: the same as a PEFT adapter, where the
        base stayed frozen; `weights_sample.json`: weights of a few held-out samples, and where weight sits in many."""
        policy = objective.model
        if self.merged or self.config.model.lora is None:
            policy.export_hf(run.export / "model")
        if self.config.model.lora is not None:
            policy.save_adapter(run.export / "adapter")
        write_manifest(run.export, "policy", model=self.config.model.model_dump(mode="json"))
        run.write(
            "weights_sample.json",
            json.dumps(_token_weights(objective, load_tokenizer(policy.source), held_out), indent=1),
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
    refuse_unsuited(config.weighting, directories)
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


def refuse_unsuited(weighting: WeightingBase, directories: tuple[Path, ...]) -> None:
    """Readings of V that what the critic was trained for does not allow. A critic that is not there is not read."""
    if not isinstance(weighting, CriticWeighting):
        return
    scaled, level = weighting.gamma != 1 or weighting.rewards, weighting.credit == "level"
    if not scaled and not level:
        return
    for directory in filter(Path.is_dir, directories):
        ranks = critic_objective(directory) == "ranking"
        if level and not ranks:
            raise ConfigError(
                "weighting.credit = level reads V as a share in the score that a ranking critic learns, but "
                f"{directory} is a λ-return critic; set credit to change"
            )
        if scaled and ranks:
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
    objective: WeightedMTPObjective,
    tokenizer: transformers.PreTrainedTokenizerBase,
    held_out: Iterator[MicroBatch],
) -> dict[str, Any]:
    """Response tokens of the first held-out samples with value, advantage and weight; and the weight of many by class
    and place. Empty for a method whose weights do not come from values."""
    samples: list[dict[str, Any]] = []
    places, measured = None, 0
    for micro_batch in held_out:
        signal_RT, values_RT = objective.method.signal(micro_batch), micro_batch.values_RT
        if signal_RT is None or values_RT is None:
            break
        batch, weights_RT = micro_batch.batch, objective.token_weights(micro_batch)
        if weights_RT.dim() == 3:  # by head
            weights_RT = weights_RT.mean(dim=-1)
        columns = {"values": values_RT, "advantages": signal_RT, "weights": weights_RT}
        for sample_id, segment in zip(batch.sample_ids.tolist(), segments_of(batch), strict=True):
            if len(samples) < SHOWN_SAMPLES:
                ids = batch.input_ids[segment.row, segment.response].tolist()
                shown = {"sample_id": sample_id, "tokens": [tokenizer.decode([token]) for token in ids]}
                samples.append(shown | {name: _response(column, segment) for name, column in columns.items()})
        of_batch = WeightPlaces.of(weights_RT, token_cells(tokenizer, batch, eos_id(tokenizer)))
        places = places + of_batch if places else of_batch
        measured += len(batch.sample_ids)
        if measured >= MEASURED_SAMPLES:
            break
    return {"samples": samples, "places": places.to_json() if places else None}


def _response(values_RT: Tensor, segment: Segment) -> list[float]:
    return values_RT[segment.row, segment.response].tolist()
