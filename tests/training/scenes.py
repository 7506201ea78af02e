"""Real small parts to train with: a store, a tiny Llama over bytes, a critic with something to say, a local feed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from tests.data.stores import build_store, synthetic_problems
from tests.tiny import SEED, tiny_config
from wmtp_ray.config import LoRAConfig, PolicyConfig, ValueModelConfig
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.weighting import CriticWeighting, LossConfig, WeightingBase
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan, PlannedStep, make_plan
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.scorer import join_values, score
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.critic_objective import RankingObjective
from wmtp_ray.training.feed import FeedUse
from wmtp_ray.training.policy_objective import WeightedMTPObjective
from wmtp_ray.training.step_ranking_objective import StepRankingObjective
from wmtp_ray.value_weighting.methods import build_method

CPU = torch.device("cpu")
LORA: dict[str, Any] = {"rank": 4, "alpha": 8.0, "target_modules": ("q_proj", "v_proj", "down_proj")}


@dataclass(frozen=True)
class Scene:
    """Where the parts lie; picklable, so that a spawned process opens them anew."""

    model: Path
    store_path: Path

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.model)

    @cached_property
    def store(self) -> SolutionStore:
        return SolutionStore.open(self.store_path, check="sizes")

    def plan(self, solutions: str = "correct", split: str = "train", samples: int = 4, **plan: Any) -> Plan:
        """`samples` samples; by default all in one step of two micro-batches."""
        plan = {"micro_batches_per_step": 2, "samples_per_micro_batch": 2} | plan
        sampling = SamplingConfig(solutions=solutions, split=split, num_samples=samples)  # type: ignore[arg-type]
        return make_plan(self.store, sampling, PlanConfig(**plan))

    def policy(self, num_heads: int = 3, dropout: float = 0.0, **changes: Any) -> MTPPolicy:
        """A policy whose adapters do something already."""
        lora = LoRAConfig(**LORA, dropout=dropout)
        config = PolicyConfig(name=str(self.model), num_heads=num_heads, lora=lora, **changes)
        return stirred(MTPPolicy.from_config(config, seed=1))

    def critic(self, dropout: float = 0.0, **changes: Any) -> ValueModel:
        """A critic whose values differ from token to token."""
        lora = LoRAConfig(**LORA, dropout=dropout)
        config = ValueModelConfig(name=str(self.model), lora=lora, head_dropout=dropout, **changes)
        return stirred(ValueModel.from_pretrained(config, seed=1))

    def policy_objective(
        self,
        policy: MTPPolicy | None = None,
        weighting: WeightingBase | None = None,
        loss: LossConfig | None = None,
        *,
        detached: bool = False,
        head_warmup_steps: int = 0,
    ) -> WeightedMTPObjective:
        weighting = weighting or CriticWeighting()
        return WeightedMTPObjective(
            policy or self.policy(),
            build_method(weighting, eos_id(self.tokenizer)),
            weighting,
            loss or LossConfig(chunk_size=64),
            eos_token_id=eos_id(self.tokenizer),
            detach_extra_heads=detached,
            head_warmup_steps=head_warmup_steps,
            device=CPU,
        )

    def critic_objective(self, critic: ValueModel | None = None) -> RankingObjective:
        return RankingObjective(critic or self.critic(), CPU)

    def step_objective(
        self, critic: ValueModel, seed: int, shuffle_seed: int | None = None
    ) -> StepRankingObjective:
        """It takes the store's problems for two, so that most programs of a step can be compared."""
        return StepRankingObjective(critic, CPU, self.store.index.row_problem % 2, seed, shuffle_seed)


def make_scene(directory: Path, tokenizer: PreTrainedTokenizerBase) -> Scene:
    """Write the store and the model below `directory`."""
    config = LlamaConfig(**(tiny_config().to_dict() | {"vocab_size": 259, "pad_token_id": 0}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        LlamaForCausalLM(config).save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    build_store(directory / "store", synthetic_problems(40), tokenizer, max_length=320)  # type: ignore[arg-type]
    return Scene(directory / "model", directory / "store")


def stirred(model: Any) -> Any:
    """The model with random values where adapters and heads start at zero."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.trainable_parameters().values():
        if not parameter.any():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(noise)
    return model


class Values:
    """The values that a critic gives each sample on its own, so that they do not depend on a batch."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._critic = scene.critic(head="linear").eval()
        self._known: dict[int, np.ndarray] = {}

    def of(self, batch: PackedBatch, alone: dict[int, PackedBatch]) -> torch.Tensor:
        """[R, T] values of `batch`, whose samples are also in `alone`."""
        for sample in batch.sample_ids.tolist():
            if sample not in self._known:
                self._known[sample] = score(self._critic, alone[sample], CPU)[0]
        return join_values([self._known[sample] for sample in batch.sample_ids.tolist()], batch)


def sample_alone(batch: PackedBatch) -> dict[int, PackedBatch]:
    """Each sample of a batch as a batch of its own, by its id."""
    cut: dict[int, PackedBatch] = {}
    samples = iter(batch.sample_ids.tolist())
    for row in range(batch.shape[0]):
        for segment in range(int(batch.segment_ids[row].max()) + 1):
            where = batch.segment_ids[row] == segment
            sample = next(samples)
            cut[sample] = PackedBatch(
                input_ids=batch.input_ids[row][where][None],
                position_ids=batch.position_ids[row][where][None],
                segment_ids=torch.zeros(1, int(where.sum()), dtype=torch.int64),
                labels=batch.labels[row][where][None],
                sample_ids=torch.tensor([sample]),
            )
    return cut


def micro_batches(scene: Scene, step: PlannedStep, values: Values | None = None) -> list[MicroBatch]:
    """The step's micro-batches, with the critic's values if they are asked for."""
    loaded = []
    for number, planned in enumerate(step.micro_batches):
        batch = load_micro_batch(scene.store, scene.tokenizer, planned)
        values_RT = values.of(batch, sample_alone(batch)) if values else None
        loaded.append(MicroBatch(number, planned, batch, values_RT))
    return loaded


class Interruption(Exception):
    """What the death of a process is to the training loop."""


class LocalFeed:
    """Reads and scores in this process. `dies_at`: the training step that is never delivered."""

    def use(self) -> FeedUse:
        return FeedUse()

    def __init__(
        self,
        scene: Scene,
        values: Values | None,
        *,
        rank: int = 0,
        world_size: int = 1,
        dies_at: int | None = None,
    ) -> None:
        self._scene, self._values = scene, values
        self._rank, self._world_size, self._dies_at = rank, world_size, dies_at

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]:
        for number in range(first_step, plan.num_steps):
            if number == self._dies_at and plan.facts["sampling"]["split"] == "train":
                raise Interruption
            every = micro_batches(self._scene, plan.step(number), self._values)
            yield [m for m in every if m.number % self._world_size == self._rank]
