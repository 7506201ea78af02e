"""The cells of a comparison, arms x seeds: what each is trained on and what it costs, before anything is started."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from wmtp_ray.cluster.frozen_models import FrozenModel, find_frozen
from wmtp_ray.cluster.policy import scorer_use
from wmtp_ray.cluster.resources import largest
from wmtp_ray.cluster.train import training_resources
from wmtp_ray.config import CriticJobConfig, PolicyJobConfig
from wmtp_ray.config.compare import ArmConfig, CompareJobConfig, cell_config
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.model import BackboneConfig, ValueModelConfig
from wmtp_ray.config.weighting import Rho1Weighting
from wmtp_ray.data.plan import Plan, make_plan
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError
from wmtp_ray.evaluation.comparison import CellCost
from wmtp_ray.models.fingerprint import model_fingerprint
from wmtp_ray.models.flops import TokenWork, extra_heads, forward_flops, training_flops
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.shapes import DecoderSize, model_shape
from wmtp_ray.storage.runs import RunDirectory, run_path

JOB = "cell"


@dataclass(frozen=True)
class Cell:
    """One policy of the comparison: an ordinary run `cell-<comparison>-<arm>-<seed>`."""

    arm: str
    seed: int
    rate: float
    config: PolicyJobConfig
    plan: Plan
    cost: CellCost

    @property
    def run(self) -> RunDirectory:
        """Its run directory."""
        return RunDirectory(run_path(self.config.storage.root, JOB, self.config.name))

    @property
    def finished(self) -> bool:
        """Whether it is trained and measured."""
        return self.run.result is not None


class Matrix:
    """The comparison's store, frozen models and cells."""

    def __init__(self, comparison: CompareJobConfig) -> None:
        self.comparison = comparison
        self._root = comparison.storage.root
        self.critics = find_frozen("critic", comparison.critics, self._root)
        self.references = find_frozen("ref_tuning", comparison.references, self._root)
        self._plans: dict[str, Plan] = {}
        self._trainings: dict[tuple[str, str], _Training] = {}

    @cached_property
    def store(self) -> SolutionStore:
        """Where every arm's samples come from."""
        return SolutionStore.named(self._root, self.comparison.policy.data.store)

    @cached_property
    def base_fingerprint(self) -> str:
        """Of the model that every arm starts from."""
        return model_fingerprint(resolve_model(self.comparison.policy.model.name, self._root / "models"))

    @cached_property
    def held_out(self) -> Plan:
        """What all cells are measured on."""
        return held_out_plan(self.store, self.comparison.held_out, self.comparison.policy.data.plan)

    @property
    def frozen(self) -> list[FrozenModel]:
        """All critics and reference models that an arm reads, each once."""
        used = [m for arm in self.comparison.arms for m in self.read_by(arm)]
        return [model for i, model in enumerate(used) if model not in used[:i]]

    def check_held_out(self) -> None:
        """`ConfigError` where a critic or reference model knows problems that the arms are compared on."""
        index = self.store.index
        held_out = set(index.ids_of(self.held_out.columns["row"]))
        for model in self.frozen:
            for part in model.parts:
                met = held_out & model.known_problems(part)
                if met:
                    raise ConfigError(
                        f"{model.kind}-{part.name} trains on, or is chosen by, {len(met)} of the {len(held_out)} "
                        f"problems of held_out (split {self.comparison.held_out.split}); train it on another split "
                        "than the arms are compared on"
                    )

    def tried(self) -> list[Cell]:
        """The cells that decide on learning rates, none where there is one rate."""
        rates, seed = self.comparison.rates, self.comparison.seeds[0]
        if len(rates) == 1:
            return []
        return [self.cell(arm, seed, rate) for arm in self.comparison.arms for rate in rates]

    def cells(self, rates: dict[str, float]) -> list[Cell]:
        """Every arm under every seed, seed by seed, so that an early end leaves whole comparisons."""
        return [
            self.cell(arm, seed, rates[arm.name])
            for seed in self.comparison.seeds
            for arm in self.comparison.arms
        ]

    def every_cell(self) -> list[Cell]:
        """Every arm under every seed with every learning rate, whichever will be taken."""
        arms = [arm.name for arm in self.comparison.arms]
        return [cell for rate in self.comparison.rates for cell in self.cells(dict.fromkeys(arms, rate))]

    def cell(self, arm: ArmConfig, seed: int, rate: float) -> Cell:
        """One cell."""
        extended = None if arm.equal_flops_to is None else self._extended[arm.name]
        config = self.cell_config(arm, seed, rate, extended)
        plan = self._plan(config.data.sampling, config.data.plan)
        return Cell(arm.name, seed, rate, config, plan, self._cost(arm, config, plan))

    def cell_config(
        self, arm: ArmConfig, seed: int, rate: float, extended: tuple[int, int] | None = None
    ) -> PolicyJobConfig:
        """The policy job of a cell."""
        critic = self.critics[arm.critic] if arm.critic else None
        reference = self.references[arm.reference] if arm.reference else None
        return cell_config(
            self.comparison,
            arm,
            seed,
            rate,
            extended,
            (critic.run, critic.folds) if critic else ("", None),
            reference.run if reference else "",
        )

    @property
    def resources(self) -> dict[str, float]:
        """What its hungriest part occupies at least: a cell, or the training of a critic."""
        first, rate = self.comparison.seeds[0], self.comparison.rates[0]
        cells = [self.cell_config(arm, first, rate) for arm in self.comparison.arms]
        parts = [(cell.cluster, scorer_use(cell)) for cell in cells]
        parts += [(part.cluster, None) for model in self.frozen for part in model.parts]
        return largest(*(training_resources(cluster, use, cluster.worker_range[0]) for cluster, use in parts))

    def read_by(self, arm: ArmConfig) -> list[FrozenModel]:
        """The frozen models whose scores an arm reads."""
        critic = [self.critics[arm.critic]] if arm.critic else []
        return critic + ([self.references[arm.reference]] if arm.reference else [])

    @cached_property
    def _extended(self) -> dict[str, tuple[int, int]]:
        """(steps, epochs) of the arms that are trained to another's cost, from the first seed's plans."""
        seed, rate, found = self.comparison.seeds[0], self.comparison.rates[0], {}
        for arm in self.comparison.arms:
            if arm.equal_flops_to is not None:
                wanted = self.cell(self.comparison.arm(arm.equal_flops_to), seed, rate).cost.total
                found[arm.name] = self._steps_for(wanted, self.cell_config(arm, seed, rate))
        return found

    def _steps_for(self, wanted: float, config: PolicyJobConfig) -> tuple[int, int]:
        """The number of steps whose training costs what is nearest to `wanted`, and the epochs that have so many."""
        size = _size(config.model)
        if size is None or math.isnan(wanted):
            raise ConfigError(
                f"equal_flops_to: the shape of {config.model.name}, or of a model that is compared with it, is not "
                "known on this machine; give a local directory"
            )
        once = config.data.plan.model_copy(update={"epochs": 1.0, "max_steps": None})
        epoch = TokenWork.of(make_plan(self.store, config.data.sampling, once), config.model.num_heads)
        epochs = math.ceil(wanted / float(training_flops(size, config.model, epoch))) + 1
        long = once.model_copy(update={"epochs": float(epochs)})
        work = TokenWork.by_step(make_plan(self.store, config.data.sampling, long), config.model.num_heads)
        spent = np.cumsum(training_flops(size, config.model, work))
        return int(np.argmin(np.abs(spent - wanted))) + 1, epochs

    def _cost(self, arm: ArmConfig, config: PolicyJobConfig, plan: Plan) -> CellCost:
        """What one cell takes that is trained from nothing: its scorers are trained for it alone."""
        size, heads = _size(config.model), config.model.num_heads
        scoring, training, rows = 0.0, 0.0, {(config.data.store, int(row)) for row in plan.columns["row"]}
        for model in self.read_by(arm):
            of_model = self._training_of(model)
            training += of_model.flops
            rows |= of_model.rows
            # A critic of several folds reads every program once, by one of its parts.
            once = TokenWork.once(plan, 1 if model.kind == "ref_tuning" else 0)
            scorer = _size(model.parts[0].model)
            scoring += float(forward_flops(scorer, once)) if scorer else math.nan
        if isinstance(config.weighting, Rho1Weighting) and config.weighting.selection == "step" and size:
            whole = replace(size, layers=size.layers + extra_heads(config.model))
            scoring += float(forward_flops(whole, TokenWork.of(plan, heads)))
        policy = float(training_flops(size, config.model, TokenWork.of(plan, heads))) if size else math.nan
        return CellCost(
            policy=policy,
            scorer_training=training,
            scoring=scoring,
            steps=plan.num_steps,
            tokens=plan.useful_tokens,
            passes=len(plan.columns["row"]) / len(np.unique(plan.columns["row"])),
            labelled=len(rows),
        )

    def _training_of(self, model: FrozenModel) -> _Training:
        key = (model.kind, model.run)
        if key not in self._trainings:
            flops, rows = 0.0, set()
            for part in model.parts:
                plan, size = model.plan(part), _size(part.model)
                heads = part.model.num_heads if isinstance(part, PolicyJobConfig) else 0
                work = TokenWork.of(plan, heads)
                flops += float(training_flops(size, part.model, work)) if size else math.nan
                if size and isinstance(part, CriticJobConfig) and part.has_second_pass:
                    flops += float(forward_flops(size, work))
                rows |= {(part.data.store, int(row)) for row in plan.columns["row"]}
            self._trainings[key] = _Training(flops, frozenset(rows))
        return self._trainings[key]

    def _plan(self, sampling: SamplingConfig, layout: PlanConfig) -> Plan:
        """Arms of one seed share their plan."""
        key = f"{sampling.model_dump_json()}{layout.model_dump_json()}"
        if key not in self._plans:
            self._plans[key] = make_plan(self.store, sampling, layout)
        return self._plans[key]


@dataclass(frozen=True)
class _Training:
    """What the training of a critic or reference model took."""

    flops: float
    rows: frozenset[tuple[str, int]]
    """Programs, by store and row."""


def held_out_plan(store: SolutionStore, held_out: SamplingConfig, layout: PlanConfig) -> Plan:
    """The held-out samples once, in micro-batches laid out as those of training."""
    return make_plan(store, held_out, layout.model_copy(update={"epochs": 1.0, "max_steps": None}))


def _size(config: BackboneConfig) -> DecoderSize | None:
    """Of the layers that a model runs; None where its shape is not known."""
    size = _backbone_size(config.name)
    return size.first(config.num_layers) if size and isinstance(config, ValueModelConfig) else size


@lru_cache(maxsize=8)  # reading a shape out of a GGUF file takes seconds
def _backbone_size(name: str) -> DecoderSize | None:
    shape = model_shape(name)
    return DecoderSize.of(shape) if shape else None
