"""Configuration of data: what is sampled from a store, and how it is laid out into steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from wmtp_ray.config.base import Section

BinWeights = dict[str, Annotated[float, Field(ge=0, le=1e6)]]
SEED_LENGTH_BINS = (0, 100, 150, 200, 300, 500, 1000, 2000)


class CurriculumStage(Section):
    """Other weights of the bins, from one epoch on."""

    from_epoch: PositiveInt
    """The first epoch of the stage, counted from 0; it lasts until the next stage."""
    difficulty_weights: BinWeights


class SamplingConfig(Section):
    """Which rows of a store are trained on. The same store, section and seed always give the same rows."""

    solutions: Literal["correct", "all", "pairs", "length_balanced_pairs"]
    """`correct` or `all`: single solutions; `pairs`: a correct and an incorrect one of the same problem,
    no row twice; `length_balanced_pairs`: both also of the same length bin."""
    split: Literal["train", "valid", "test"] = "train"
    num_samples: PositiveInt | None = None
    """Single solutions, or pairs; null = all there are."""
    max_per_problem: PositiveInt | None = None
    """At most so many samples of one problem."""
    length_bins: tuple[int, ...] = SEED_LENGTH_BINS
    """Lower bounds, in response tokens with EOS; each bin is [lower, next lower), the last one open."""
    difficulty_by: Literal["difficulty", "cf_rating"] = "difficulty"
    """What the bins are over: the data set's class of difficulty, or the rating at Codeforces."""
    difficulty_bins: dict[str, tuple[int, int]] | None = None
    """Difficulties of each bin, both ends included; null = take every problem alike."""
    difficulty_weights: BinWeights | None = None
    """Share of each bin; what a bin is short of is taken from the others in proportion."""
    curriculum: tuple[CurriculumStage, ...] = ()
    """Weights that take the place of `difficulty_weights` in later epochs; each stage draws `num_samples`."""
    allow_fewer: bool = False
    """Take what there is where `num_samples` is more."""
    without_fold: tuple[NonNegativeInt, PositiveInt] | None = None
    """[f, F]: leave out the training problems of fold f of F, which a cross-fitted critic is to score."""
    seed: int = 0

    @model_validator(mode="after")
    def _bins_fit(self) -> Self:
        if not self.length_bins or list(self.length_bins) != sorted(set(self.length_bins)):
            raise ValueError(f"length_bins = {list(self.length_bins)} must increase; sort them")
        if (self.difficulty_bins is None) != (self.difficulty_weights is None):
            raise ValueError("difficulty_bins and difficulty_weights belong together; set both or neither")
        below = None
        bins = self.difficulty_bins or {}
        for name, (low, high) in sorted(bins.items(), key=lambda item: item[1]):
            if low > high or (below is not None and low <= below):
                raise ValueError(f"difficulty_bins.{name} = [{low}, {high}] is empty or overlaps another bin")
            below = high
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.difficulty_bins is None or self.difficulty_weights is None:
            for key, default in (("curriculum", ()), ("difficulty_by", "difficulty")):
                if getattr(self, key) != default:
                    raise ValueError(f"{key} is about bins; set difficulty_bins and difficulty_weights, too")
            return self
        stages = {f"curriculum[{i}].difficulty_weights": stage for i, stage in enumerate(self.curriculum)}
        weights = {key: stage.difficulty_weights for key, stage in stages.items()}
        for key, given in {"difficulty_weights": self.difficulty_weights, **weights}.items():
            if self.difficulty_bins.keys() != given.keys():
                raise ValueError(
                    f"difficulty_bins name {sorted(self.difficulty_bins)} but {key} {sorted(given)}; "
                    "name the same bins"
                )
            if not sum(given.values()) > 0:
                raise ValueError(f"{key} are all 0; give at least one bin a weight")
        first_epochs = [stage.from_epoch for stage in self.curriculum]
        if first_epochs != sorted(set(first_epochs)):
            raise ValueError(
                f"curriculum has from_epoch {first_epochs}, which must increase; sort the stages"
            )
        return self

    @property
    def paired(self) -> bool:
        """Whether a sample is a pair of rows."""
        return self.solutions in ("pairs", "length_balanced_pairs")

    @property
    def identity(self) -> dict[str, Any]:
        """The section as JSON values, which everything random is keyed by."""
        return _identity(self, "difficulty_by", "curriculum", "without_fold")


class PlanConfig(Section):
    """How samples become optimizer steps. No worker count stands here: it changes nothing."""

    epochs: PositiveFloat = 1.0
    """Passes over the samples; 0.5 = half of them."""
    max_steps: PositiveInt | None = None
    """Stop after so many optimizer steps."""
    micro_batches_per_step: PositiveInt
    samples_per_micro_batch: PositiveInt | None = None
    """Samples in each micro-batch, a pair counting as one. Set this or `tokens_per_micro_batch`."""
    tokens_per_micro_batch: PositiveInt | None = None
    """Tokens that a micro-batch may hold, instead of a number of samples."""
    row_tokens: PositiveInt | None = None
    """Tokens that a packed row may hold; null = the longest sample where samples are counted, and the whole
    micro-batch in one row where tokens are."""
    even_for_workers: PositiveInt | None = None
    """Lay every step out so that 1, 2, ... up to this many workers each have about the same tokens of it, also
    where the number of micro-batches does not divide. Needs `tokens_per_micro_batch` and at least 3 micro-batches
    for each of the workers; their sizes then differ, and a step takes 2/3 of the tokens that they could hold."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.samples_per_micro_batch is None) == (self.tokens_per_micro_batch is None):
            raise ValueError(
                f"samples_per_micro_batch = {self.samples_per_micro_batch} and "
                f"tokens_per_micro_batch = {self.tokens_per_micro_batch}; set exactly one of them"
            )
        budget = self.tokens_per_micro_batch
        if budget is not None and self.row_tokens is not None and self.row_tokens > budget:
            raise ValueError(
                f"row_tokens = {self.row_tokens} is more than tokens_per_micro_batch = {budget}; lower it"
            )
        if self.even_for_workers is not None and budget is None:
            raise ValueError(
                "even_for_workers needs tokens_per_micro_batch; set it instead of samples_per_micro_batch"
            )
        fewest = 3 * (self.even_for_workers or 0)
        if self.micro_batches_per_step < fewest:
            raise ValueError(
                f"even_for_workers = {self.even_for_workers} needs micro_batches_per_step >= {fewest}, not "
                f"{self.micro_batches_per_step}; raise it and lower tokens_per_micro_batch, or lower even_for_workers"
            )
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """The section as JSON values, which everything random is keyed by."""
        return _identity(self, "even_for_workers")


def _identity(section: Section, *later: str) -> dict[str, Any]:
    """`section` without those keys that came `later` than the first version and are not set: so a section written
    then still has its samples and its plan."""
    fields = type(section).model_fields
    return section.model_dump(
        mode="json", exclude={key for key in later if getattr(section, key) == fields[key].default}
    )


class DataConfig(Section):
    """Where samples come from, and how they become steps."""

    store: str
    """Name of a prepared store under the storage root, or URI of an uploaded one (`s3://bucket/contests`), of which a
    copy is made there."""
    sampling: SamplingConfig
    plan: PlanConfig
    validation: SamplingConfig
    """Held-out samples: from another split, that is from other problems."""
