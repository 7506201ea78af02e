"""Configuration of `jobs/compare.py`: arms and seeds, what they share, and which difference counts."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from wmtp_ray.config.base import Name, Section, distinct
from wmtp_ray.config.data import SamplingConfig
from wmtp_ray.config.evaluate import BenchmarkConfig, DecodingConfig, EngineConfig, JudgeConfig
from wmtp_ray.config.jobs import JobConfig, PolicyJobConfig, TrainingSections
from wmtp_ray.config.load import changed, validate
from wmtp_ray.config.model import PolicyConfig
from wmtp_ray.config.weighting import RECIPES, ControlWeighting, LossConfig, ScorePoolConfig

MAY_DIFFER = (
    "weighting",
    "loss.head_coefficients",
    "model.num_heads",
    "model.trunk_gradient",
    "data.sampling.solutions",
    "reference.dtype",
    "critic.backend",
    "critic.url",
)
"""Keys that an arm may change; everything else is the same in all of them."""
COMPARED = {"normalize": "mean_one", "eos_weight": "one"}
"""Sections of every arm's weighting: weights of mean 1, and of 1 for the end of a program, whatever the method."""


class FrozenModelConfig(Section):
    """A critic or a reference model that arms read: set `run` or `config`."""

    run: Name | None = None
    """A finished run of `jobs/critic.py` or `jobs/ref_tuning.py`, used as it is."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """As that critic's run was made with."""
    config: Path | None = None
    """The configuration file of such a job: the comparison runs it, unless its run is finished."""
    overrides: tuple[str, ...] = ()
    """Changes to that file, `key.sub=value` as on the command line; give each model a `name` of its own."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.run is None) == (self.config is None):
            raise ValueError(
                f"run = {self.run!r} and config = {self.config and str(self.config)!r}; set exactly one"
            )
        if self.config is None and self.overrides:
            raise ValueError(f"overrides of the finished run {self.run!r}; give its config instead")
        if self.config is not None and self.folds is not None:
            raise ValueError(f"folds stands in {self.config} or in overrides; leave it out here")
        return self


class ArmConfig(Section):
    """One way to train. It differs from the others in its recipe and `overrides` alone."""

    name: Name
    recipe: str | None = None
    """A name of `wmtp_ray.config.weighting.RECIPES`; null = `name`."""
    overrides: tuple[str, ...] = ()
    """Further changes, `key.sub=value`."""
    critic: str | None = None
    """Which of `critics` it reads."""
    reference: str | None = None
    """Which of `references` it reads."""
    equal_flops_to: str | None = None
    """Train for as many more steps as cost what that arm costs in all, its critic and its scoring included."""


class SharedPolicyConfig(TrainingSections):
    """What all arms share: the sections of a policy's job, without weighting and scorers."""

    model: PolicyConfig
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _last(self) -> Self:
        if self.checkpoint.export != "last":
            raise ValueError(
                "checkpoint.export = best: a comparison takes the last step of every arm; set last"
            )
        return self


class PassAtKConfig(Section):
    """pass@k of every cell, sampled by one engine and judged as in `jobs/evaluate.py`."""

    seed: NonNegativeInt = 0
    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Field(min_length=1)]
    decoding: DecodingConfig = DecodingConfig()
    engine: EngineConfig = EngineConfig()
    judge: JudgeConfig = JudgeConfig()

    @model_validator(mode="after")
    def _one_temperature(self) -> Self:
        if len(self.decoding.temperatures) > 1:
            raise ValueError("decoding.temperature: a comparison samples at one temperature; give one")
        return self


class CompareJobConfig(JobConfig):
    """`jobs/compare.py`."""

    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    """Every arm is trained once with each: it draws and orders the training samples, and starts adapters, alike in all
    arms."""
    arms: Annotated[tuple[ArmConfig, ...], Field(min_length=2)]
    primary: tuple[str, str]
    """The one contrast that the comparison is about: [treated arm, reference arm]."""
    contrasts: tuple[tuple[str, str], ...] | None = None
    """All others, corrected together; null = the treated arm against every other one."""
    policy: SharedPolicyConfig
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    """Each arm is trained with all of them under the first seed and goes on with the one of the lowest validation loss
    of the next token; null = `policy.optimizer.learning_rate`, no search."""
    held_out: SamplingConfig
    """Samples of problems that neither training nor validation uses: what the arms are compared on."""
    critics: dict[Name, FrozenModelConfig] = Field(default_factory=dict)
    references: dict[Name, FrozenModelConfig] = Field(default_factory=dict)
    scorers: ScorePoolConfig = ScorePoolConfig()
    """The actors that score for one cell."""
    pass_at_k: PassAtKConfig | None = None
    """null = the loss on held-out problems only."""
    concurrent: PositiveInt | None = None
    """Cells at a time at most; null = as many as the cluster has room for."""
    resume_allow: tuple[str, ...] = (
        *("concurrent", "pass_at_k", "seeds", "arms", "contrasts", "critics", "references"),
    )
    """Keys that may differ from the configuration that the comparison was begun with: more cells, and what is said of
    them. The primary contrast is not among them, and a finished cell must still be what it was."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [arm.name for arm in self.arms]
        distinct("arms", names)
        distinct("seeds", [str(seed) for seed in self.seeds])
        for place, pair in self._pairs():
            for name in pair:
                _known(place, name, names)
            if pair[0] == pair[1]:
                raise ValueError(f"{place} compares {pair[0]} with itself; name two arms")
        if self.scorers.run or self.scorers.path:
            raise ValueError("scorers.run and scorers.path stand in critics and references; remove them here")
        used = {self.policy.data.sampling.split, self.policy.data.validation.split}
        if self.held_out.split in used or self.held_out.paired:
            raise ValueError(
                f"held_out takes {self.held_out.solutions} of {self.held_out.split}; it needs single solutions of a "
                f"split that neither training nor validation uses ({' and '.join(sorted(used))} are used)"
            )
        for arm in self.arms:
            self._check_arm(arm, names)
        return self

    @property
    def secondary(self) -> tuple[tuple[str, str], ...]:
        """All contrasts but the primary one."""
        if self.contrasts is not None:
            return self.contrasts
        treated = self.primary[0]
        return tuple((treated, arm.name) for arm in self.arms if arm.name not in self.primary)

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates that every arm tries."""
        return self.learning_rates or (self.policy.optimizer.learning_rate,)

    def arm(self, name: str) -> ArmConfig:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def _pairs(self) -> Iterator[tuple[str, tuple[str, str]]]:
        yield "primary", self.primary
        for number, pair in enumerate(self.contrasts or ()):
            yield f"contrasts[{number}]", pair
            if pair == self.primary:
                raise ValueError(f"contrasts[{number}] is the primary one; remove it")

    def _check_arm(self, arm: ArmConfig, names: Sequence[str]) -> None:
        _known(f"arms.{arm.name}.recipe", arm.recipe or arm.name, list(RECIPES))
        for key, chosen, there in (
            ("critic", arm.critic, self.critics),
            ("reference", arm.reference, self.references),
        ):
            if chosen is not None:
                _known(f"arms.{arm.name}.{key}", chosen, list(there))
        for change in arm.overrides:
            key = change.partition("=")[0]
            may = any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_DIFFER)
            if not may or key in (f"weighting.{fixed}" for fixed in COMPARED):
                raise ValueError(
                    f"arms.{arm.name} changes {key}, which is the same in every arm of a comparison; an arm may change "
                    f"{', '.join(MAY_DIFFER)}"
                )
        if arm.equal_flops_to is not None:
            _known(f"arms.{arm.name}.equal_flops_to", arm.equal_flops_to, names)
            if self.arm(arm.equal_flops_to).equal_flops_to is not None or arm.critic or arm.reference:
                raise ValueError(
                    f"arms.{arm.name}.equal_flops_to = {arm.equal_flops_to}: only an arm without scorers is extended, "
                    "and to the cost of one that is not"
                )
        cell_config(self, arm, self.seeds[0], self.rates[0])


def cell_config(
    comparison: CompareJobConfig,
    arm: ArmConfig,
    seed: int,
    rate: float,
    extended: tuple[int, int] | None = None,
    critic: tuple[str, int | None] = ("a-critic", None),
    reference: str = "a-reference",
) -> PolicyJobConfig:
    """The policy job of one cell. `extended` (steps, epochs) takes the place of the plan's numbers; `critic` (run,
    folds) and `reference` are the runs of those that the arm names. Raises `ConfigError` where arm and shared sections
    contradict each other.
    """
    shared = comparison.policy.model_dump(mode="json")
    content: dict[str, Any] = shared | {"seed": seed, "weighting": dict(COMPARED)}
    content["name"] = cell_name(comparison, arm, seed, rate)
    content["storage"] = comparison.storage.model_dump(mode="json")
    pool = comparison.scorers.model_dump(mode="json")
    if arm.critic is not None:
        content["critic"] = pool | {"run": critic[0], "folds": critic[1]}
    if arm.reference is not None:
        content["reference"] = pool | {"run": reference}
    content = changed(content, [*RECIPES[arm.recipe or arm.name], *arm.overrides])
    content["data"]["sampling"]["seed"] = seed
    content["optimizer"]["learning_rate"] = rate
    if content["weighting"]["method"] in _seeded_methods():
        content["weighting"].setdefault("seed", seed)
    if extended is not None:
        content["data"]["plan"] |= {"max_steps": extended[0], "epochs": float(extended[1])}
    return validate(PolicyJobConfig, content, f"arm {arm.name}")


def cell_name(comparison: CompareJobConfig, arm: ArmConfig, seed: int, rate: float) -> str:
    """Name of a cell's run: the same in every start of the comparison."""
    tried = f"-lr{rate:g}" if len(comparison.rates) > 1 else ""
    return f"{comparison.name}-{arm.name}{tried}-{seed}"


def _seeded_methods() -> tuple[str, ...]:
    return tuple(ControlWeighting.model_fields["method"].annotation.__args__)  # type: ignore[union-attr]


def _known(place: str, name: str, there: Sequence[str]) -> None:
    if name in there:
        return
    close = difflib.get_close_matches(name, there, n=1, cutoff=0.0)
    hint = f"did you mean {close[0]}?" if close else "there are none; add it"
    raise ValueError(f"{place} = {name!r} is not among {', '.join(there) or 'any'}; {hint}")
