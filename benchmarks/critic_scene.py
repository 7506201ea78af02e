"""What `benchmarks.critic` measures with: a critic trained by the job's own loop in this process, and held-out programs
with what any judge says of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from transformers import PreTrainedTokenizerBase

from wmtp_ray.config import CriticJobConfig
from wmtp_ray.config.critic import RankingConfig
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.weighting import CriticWeighting
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan, empty_plan, make_plan
from wmtp_ray.data.segments import segments_of
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.evaluation.audited_tokens import audited_tokens
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.score_engine import EngineSettings, ReferenceEngine
from wmtp_ray.models.scorer import join_values, score
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.critic_objective import RankingObjective
from wmtp_ray.training.feed import FeedUse
from wmtp_ray.training.step_ranking_objective import StepRankingObjective
from wmtp_ray.training.trainer import Trainer, TrainerConfig
from wmtp_ray.value_weighting.audit import AuditedTokens, Localisation, localisation
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Store:
    """A store and the tokenizer that it was made with."""

    store: SolutionStore
    tokenizer: PreTrainedTokenizerBase

    def batches(self, plan: Plan, first: int = 0) -> Iterator[list[MicroBatch]]:
        """Every step's micro-batches."""
        for number in range(first, plan.num_steps):
            yield [
                MicroBatch(m, planned, load_micro_batch(self.store, self.tokenizer, planned))
                for m, planned in enumerate(plan.step(number).micro_batches)
            ]


@dataclass(frozen=True)
class LocalFeed:
    """Reads in this process, scores nothing."""

    place: Store

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]:
        return self.place.batches(plan, first_step)

    def use(self) -> FeedUse:
        """Nothing."""
        return FeedUse()


@dataclass(frozen=True)
class TrainedCritic:
    """A critic and what it took."""

    model: ValueModel
    steps: int
    tokens: int
    minutes: float

    @property
    def cost(self) -> str:
        """For a figure's counterpart."""
        return f"{self.steps} steps, {self.tokens:,} tokens, {self.minutes:.1f} min"


def train_critic(config: CriticJobConfig, place: Store, folder: Path) -> TrainedCritic:
    """What `jobs/critic.py` does inside its worker, without validation and without Ray."""
    plan = make_plan(place.store, config.data.sampling, config.data.plan)
    model = ValueModel.from_pretrained(
        config.model, seed=config.seed, cache_dir=config.storage.root / "models"
    )
    run = RunDirectory(folder)
    run.checkpoints.mkdir(parents=True)
    trainer = Trainer(
        config=TrainerConfig(
            config.seed, config.optimizer, config.schedule, config.checkpoint, config.validation
        ),
        run=run,
        attempt=run.begin_attempt(),
        objective=_objective(config, model, place),
        plan=plan,
        validation_plan=empty_plan(place.store),
        feed=LocalFeed(place),
        collective=Collective(),
        fingerprints={"plan": plan.fingerprint},
        notice=lambda line: None,
    )
    started = time.perf_counter()
    trainer.train()
    minutes = (time.perf_counter() - started) / 60
    return TrainedCritic(model.requires_grad_(False).eval(), plan.num_steps, plan.useful_tokens, minutes)


def _objective(config: CriticJobConfig, model: ValueModel, place: Store) -> RankingObjective:
    if isinstance(config.objective, RankingConfig) and config.objective.pairs == "step":
        return StepRankingObjective(model, CPU, place.store.index.row_problem, config.seed)
    return RankingObjective(model, CPU)


@dataclass(frozen=True)
class Programs:
    """Labelled programs of one split, packed, in the order of micro-batches and samples."""

    place: Store
    batches: list[MicroBatch]

    @classmethod
    def of(cls, place: Store, split: str) -> Programs:
        """All programs of `split`."""
        sampling = SamplingConfig(solutions="all", split=split)  # type: ignore[arg-type]
        layout = PlanConfig(micro_batches_per_step=1, samples_per_micro_batch=16, row_tokens=1024)
        plan = make_plan(place.store, sampling, layout)
        return cls(place, [batch for step in place.batches(plan) for batch in step])

    @cached_property
    def rows_P(self) -> np.ndarray:
        """[P] store rows."""
        return np.concatenate([m.batch.sample_ids.numpy() for m in self.batches])

    @cached_property
    def correct_P(self) -> np.ndarray:
        """[P] labels."""
        return self.place.store.index.row_correct[self.rows_P]

    @cached_property
    def problem_P(self) -> np.ndarray:
        """[P] number of the problem."""
        return self.place.store.index.row_problem[self.rows_P]

    @cached_property
    def length_P(self) -> np.ndarray:
        """[P] response tokens."""
        return self.place.store.index.row_targets[self.rows_P].astype(float)

    @cached_property
    def pairs(self) -> np.ndarray:
        """[n, 2]: every correct program with every incorrect one of the same problem."""
        found = []
        for problem in np.unique(self.problem_P):
            of_problem = self.problem_P == problem
            sides = (np.flatnonzero(of_problem & (self.correct_P == label)) for label in (True, False))
            found.append(np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2))
        return np.concatenate(found)

    @cached_property
    def mutants(self) -> np.ndarray:
        """[n, 2]: those of the pairs whose incorrect program was made from the correct one, which the mini source puts
        right behind it."""
        rows_n2 = self.rows_P[self.pairs]
        return self.pairs[rows_n2[:, 1] == rows_n2[:, 0] + 1]

    def accuracy(self, score_P: np.ndarray, pairs: np.ndarray | None = None) -> float:
        """Share of the pairs (by default all) whose correct side has the strictly greater score."""
        correct, incorrect = (self.pairs if pairs is None else pairs).T
        return float((score_P[correct] > score_P[incorrect]).mean())

    @cached_property
    def tokens(self) -> AuditedTokens:
        """Place, EOS and known mutation of each response token."""
        return audited_tokens(self.batches, self.place.store, self.place.tokenizer)

    def responses(self, of_token: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """The response tokens' part of [R, T] tensors, one for each micro-batch, by program."""
        return [
            found_RT[s.row, s.response].numpy()
            for m, found_RT in zip(self.batches, of_token, strict=True)
            for s in segments_of(m.batch)
        ]


@dataclass(frozen=True)
class Judged:
    """Programs with a critic's values."""

    programs: Programs
    values: list[torch.Tensor]

    @classmethod
    def by(cls, model: ValueModel, programs: Programs) -> Judged:
        """One forward pass over all of them."""
        return cls(programs, [join_values(score(model, m.batch, CPU), m.batch) for m in programs.batches])

    @cached_property
    def score_P(self) -> np.ndarray:
        """[P] mean value over the response."""
        return np.array([v.mean() for v in self.programs.responses(self.values)])

    @property
    def accuracy(self) -> float:
        """Over all pairs."""
        return self.programs.accuracy(self.score_P)

    def localisation(self, **weighting: object) -> Localisation:
        """Of −δ at known mutations, δ as `weighting` (λ = 0 unless it says more) reads the values."""
        method = CriticAdvantage(CriticWeighting.model_validate({"lam": 0.0} | weighting))
        scored = [
            MicroBatch(m.number, m.planned, m.batch, values_RT)
            for m, values_RT in zip(self.programs.batches, self.values, strict=True)
        ]
        deltas = self.programs.responses([method.signal(m) for m in scored])
        return localisation(np.concatenate(deltas).astype(float), self.programs.tokens)


def likelihoods(config: CriticJobConfig, programs: Programs) -> list[np.ndarray]:
    """Log-probability of every response token under the untrained backbone, by program."""
    models = config.storage.root / "models"
    directory = resolve_model(config.model.name, models)
    settings = EngineSettings("reference_losses", directory, "", models, dtype=config.model.dtype)
    engine = ReferenceEngine(settings, CPU)
    return [-losses for m in programs.batches for losses in engine.score(m.batch)]


def bag_of_tokens(train: Programs, held_out: Programs) -> np.ndarray:
    """[P] score of each held-out program by a logistic regression on its response's token counts, fitted on `train`."""
    fitted = LogisticRegression(max_iter=1000).fit(_counts(train), train.correct_P)
    return fitted.decision_function(_counts(held_out))


def _counts(programs: Programs) -> csr_matrix:
    """[P, V] log(1 + count) of every token."""
    ids = programs.responses([m.batch.input_ids for m in programs.batches])
    bags = [Counter(of_program.tolist()) for of_program in ids]
    places = [(p, token, count) for p, bag in enumerate(bags) for token, count in bag.items()]
    row, column, count = (np.array(part) for part in zip(*places, strict=True))
    return csr_matrix((np.log1p(count), (row, column)), shape=(len(bags), len(programs.place.tokenizer)))
