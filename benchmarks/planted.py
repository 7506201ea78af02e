"""A positive control: on a task with a planted truth, does weighting by what is true win, and does the critic find it?

Policies learn from correct and incorrect programs alike, at equal tokens and equal mean weight, and are judged by the
loss of the partners of held-out correct programs (the only tokens that can be right or wrong). Weighted by the planted
truth a policy must win clearly; by the same weights in random order it must not; by a real critic it must land between.
Were there no difference here, none elsewhere would mean anything.

    store ─► critics by ranking and by λ-return ─► values ─► one policy for each way to weight

What it showed: a ranking critic learns mean values, so its V rises at a right partner and falls back behind it.
One-step errors (λ = 0) find the partner; at λ = 0.95 rise and fall cancel in part. A λ-return critic's V stays where
the partner put it, and λ = 0.95 works. Weights rotated within each program keep most of what that critic gains, and go
half of the way from uniform to the truth: they still prefer the correct ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from benchmarks.figure import Figure
from wmtp_ray.config import PolicyConfig, ValueModelConfig
from wmtp_ray.config.critic import LambdaReturnConfig
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.weighting import (
    ControlWeighting,
    CriticWeighting,
    LossConfig,
    UniformWeighting,
    WeightingBase,
)
from wmtp_ray.data.keyed import keyed_order
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan, make_plan
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.data.segments import map_responses
from wmtp_ray.data.sources.planted import WORDS, PlantedSource, worth
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store
from wmtp_ray.losses import chunked_cross_entropy, mtp_targets
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.scorer import join_values, score
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.critic_objective import LambdaReturnObjective, RankingObjective
from wmtp_ray.training.objective import Objective
from wmtp_ray.training.policy_objective import WeightedMTPObjective
from wmtp_ray.value_weighting.methods import WeightingMethod, build_method

CPU, ALONE = torch.device("cpu"), Collective()
ORACLE = {1.0: 3.0, 0.0: 1.0, -1.0: 0.1}
"""Weight of a right partner, of noise, and of a wrong partner: what the critic's clip bounds allow."""
CONTROLS = ("uniform", "oracle", "shuffled_oracle")
REAL = ("critic", "td0", "level", "lambda_return", "lambda_return_shifted", "lambda_return_random")
"""A ranking critic at λ = 0.95, at λ = 0, and credited by level; a λ-return critic at λ = 0.95, its weights rotated
within each program, and weights drawn from the distribution of its own."""
SEEDS = (0, 1, 2)
COMPARED: dict[str, Any] = {"normalize": "mean_one", "eos_weight": "one"}


@dataclass(frozen=True)
class Settings:
    """How much is trained."""

    problems: int = 2400
    """So many that no critic sees a pair more than a few times."""
    critic_steps: int = 320
    critic_learning_rate: float = 1e-3
    """At 3e-3 a λ-return critic misses the partners for some seeds, however long it learns."""
    policy_steps: int = 120
    policy_learning_rate: float = 3e-3


DEFAULT = Settings()


@dataclass(frozen=True)
class Oracle(WeightingMethod):
    """Weights from the planted truth; a method of a user's own, which the trainer takes like any other."""

    tokenizer: PreTrainedTokenizerBase
    shuffled: bool

    def weigh(self, micro_batch: MicroBatch) -> Tensor:
        batch = micro_batch.batch
        planted_RT = map_responses(
            batch.input_ids.float(),
            batch,
            lambda _, ids: np.array([ORACLE[w] for w in worth(_words(self.tokenizer, ids))]),
        )
        weights_N = planted_RT[batch.response_mask]
        if self.shuffled:
            # Over the whole micro-batch: within a sample, correct ones would keep their greater mean.
            weights_N = weights_N[keyed_order(len(weights_N), "oracle", int(batch.sample_ids.sum()))]
        return torch.zeros_like(planted_RT).masked_scatter(batch.response_mask, weights_N)


@dataclass(frozen=True)
class Place:
    """Model, store and plans of one seed."""

    model: Path
    store: SolutionStore
    tokenizer: PreTrainedTokenizerBase
    seed: int

    def plan(self, solutions: str, split: str, steps: int | None) -> Plan:
        """Steps of two micro-batches of 16 samples (pairs, for a critic)."""
        sampling = SamplingConfig(solutions=solutions, split=split, seed=self.seed)  # type: ignore[arg-type]
        layout = PlanConfig(
            epochs=1.0 if steps is None else 100.0,
            max_steps=steps,
            micro_batches_per_step=2,
            samples_per_micro_batch=16,
        )
        return make_plan(self.store, sampling, layout)

    def steps(self, plan: Plan) -> Iterator[list[MicroBatch]]:
        """Every step's micro-batches."""
        for step in plan.steps():
            yield [
                MicroBatch(n, planned, load_micro_batch(self.store, self.tokenizer, planned))
                for n, planned in enumerate(step.micro_batches)
            ]


def run_control(
    seed: int, arms: Sequence[str] = CONTROLS + REAL, settings: Settings = DEFAULT
) -> dict[str, float]:
    """Loss of held-out partners by arm, in nats per token; the same model, plan and steps in every arm."""
    with tempfile.TemporaryDirectory() as folder:
        place = _prepare(Path(folder), seed, settings.problems)
        plan, held_out = (
            place.plan("all", "train", settings.policy_steps),
            place.plan("correct", "valid", None),
        )
        steps, losses = list(place.steps(plan)), {}
        scored = {
            objective: [_scored(step, critic) for step in steps]
            for objective in {_critic_of(arm) for arm in arms} - {None}
            for critic in [_train_critic(place, objective, settings)]
        }
        for arm in arms:
            policy = MTPPolicy.from_config(_policy_config(place), seed=seed)
            objective = _policy_objective(arm, policy, place)
            _train(objective, plan, scored.get(_critic_of(arm), steps), settings.policy_learning_rate)
            losses[arm] = _partner_loss(policy, place, held_out)
        return losses


def figures() -> Iterator[Figure]:
    """Mean over seeds, and how far of the oracle's way the critic gets."""
    runs = [run_control(seed) for seed in SEEDS]
    of_arm = {arm: mean(run[arm] for run in runs) for arm in runs[0]}
    uniform, oracle = of_arm["uniform"], of_arm["oracle"]
    spread = max(run["uniform"] for run in runs) - min(run["uniform"] for run in runs)
    beside = f"uniform {uniform:.3f} (spread over {len(runs)} seeds {spread:.3f}), oracle {oracle:.3f} nats"
    yield Figure("planted_oracle_vs_uniform", oracle / uniform, "x loss", beside, "<= 0.5")
    yield Figure(
        "planted_shuffled_oracle_vs_uniform", of_arm["shuffled_oracle"] / uniform, "x loss", beside, ">= 0.85"
    )
    targets = {"td0": "0.1..1", "lambda_return": "0.1..1", "lambda_return_random": "<= 0.1"}
    for arm in REAL:
        share = (uniform - of_arm[arm]) / (uniform - oracle)
        yield Figure(f"planted_{arm}_share_of_oracle", share, "of the way", beside, targets.get(arm))


def _critic_of(arm: str) -> str | None:
    """What the critic was trained for whose values an arm reads."""
    if arm in CONTROLS:
        return None
    return "lambda_return" if arm.startswith("lambda_return") else "ranking"


def _prepare(folder: Path, seed: int, problems: int) -> Place:
    tokenizer = _write_model(folder / "model", seed)
    source = PlantedSource(num_problems=problems, seed=seed)
    write_store(
        folder / "store",
        (problem for number in source.partitions() for problem in source.problems(number)),
        tokenizer,
        128,
        source="planted",
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
    )
    return Place(folder / "model", SolutionStore.open(folder / "store"), tokenizer, seed)


def _write_model(directory: Path, seed: int) -> PreTrainedTokenizerBase:
    """A random Llama of two layers that knows the planted words."""
    specials = ("<pad>", "<s>", "</s>", "<unk>")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(specials + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), specials, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(specials + WORDS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(directory)
    return load_tokenizer(directory)


def _train_critic(place: Place, objective: str | None, settings: Settings) -> ValueModel:
    config = ValueModelConfig(name=str(place.model), lora=None, head="linear", train="all")
    model = ValueModel.from_pretrained(config, seed=place.seed)
    plan = place.plan("pairs", "train", settings.critic_steps)
    training = RankingObjective(model, CPU)
    if objective == "lambda_return":
        training = LambdaReturnObjective(model, CPU, LambdaReturnConfig(), plan.num_steps)
    _train(training, plan, list(place.steps(plan)), settings.critic_learning_rate)
    return model.eval()


def _policy_config(place: Place) -> PolicyConfig:
    return PolicyConfig(name=str(place.model), num_heads=1, lora=None, head_training="full")


def _policy_objective(arm: str, policy: MTPPolicy, place: Place) -> WeightedMTPObjective:
    sections: dict[str, WeightingBase] = {
        "critic": CriticWeighting(**COMPARED),
        "td0": CriticWeighting(lam=0.0, **COMPARED),
        "level": CriticWeighting(lam=0.0, credit="level", **COMPARED),
        "lambda_return": CriticWeighting(**COMPARED),
        "lambda_return_shifted": ControlWeighting(method="circular_shift", seed=place.seed, **COMPARED),
        "lambda_return_random": ControlWeighting(method="random_matched", seed=place.seed, **COMPARED),
    }
    section = sections.get(arm, UniformWeighting(**COMPARED))
    eos = eos_id(place.tokenizer)
    if arm.endswith("oracle"):
        method: WeightingMethod = Oracle(place.tokenizer, shuffled=arm == "shuffled_oracle")
    else:
        method = build_method(
            section, eos, "lambda_return" if _critic_of(arm) == "lambda_return" else "ranking"
        )
    return WeightedMTPObjective(
        policy, method, section, LossConfig(), eos_token_id=eos, detach_extra_heads=False, device=CPU
    )


def _train(objective: Objective, plan: Plan, steps: Sequence[list[MicroBatch]], rate: float) -> None:
    optimizer = torch.optim.AdamW(objective.model.parameters(), lr=rate, weight_decay=0.01)
    objective.model.train()
    for planned, batches in zip(plan.steps(), steps, strict=True):
        objective.prepare(planned, batches, ALONE)
        for batch in batches:
            objective.backward(batch)
        torch.nn.utils.clip_grad_norm_(objective.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _scored(step: list[MicroBatch], critic: ValueModel) -> list[MicroBatch]:
    return [replace(m, values_RT=join_values(score(critic, m.batch, CPU), m.batch)) for m in step]


@torch.no_grad()
def _partner_loss(policy: MTPPolicy, place: Place, plan: Plan) -> float:
    """Mean loss of the partners in held-out correct programs."""
    policy.eval()
    total, count = 0.0, 0
    for m in (m for step in place.steps(plan) for m in step):
        batch = m.batch
        targets_RT = mtp_targets(batch.labels, batch.segment_ids, 1)
        hidden_RTD = policy.head(1, *policy.trunk(batch))
        losses_RT = chunked_cross_entropy(hidden_RTD, policy.unembedding, targets_RT).roll(1, dims=1)
        partner_RT = map_responses(
            batch.input_ids, batch, lambda _, ids: worth(_words(place.tokenizer, ids)) != 0
        )
        chosen_RT = (partner_RT == 1) & batch.response_mask
        total += float(losses_RT[chosen_RT].sum())
        count += int(chosen_RT.sum())
    return total / count


def _words(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray) -> list[str]:
    return [str(word) for word in tokenizer.convert_ids_to_tokens(ids.astype(int).tolist())]
