"""Configuration of data: what is sampled from a store, and how it is laid out into steps."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from wmtp_ray.config.base import Section

SEED_LENGTH_BINS = (0, 100, 150, 200, 300, 500, 1000, 2000)


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
    difficulty_bins: dict[str, tuple[int, int]] | None = None
    """Difficulties of each bin, both ends included; null = take every problem alike."""
    difficulty_weights: dict[str, NonNegativeFloat] | None = None
    """Share of each bin; what a bin is short of is taken from the others in proportion."""
    allow_fewer: bool = False
    """Take what there is where `num_samples` is more."""
    without_fold: tuple[NonNegativeInt, PositiveInt] | None = Field(default=None, exclude=True)
    """[f, F]: leave out the training problems of fold f of F, which a cross-fitted critic is to score."""
    seed: int = 0

    @model_validator(mode="after")
    def _bins_fit(self) -> Self:
        if not self.length_bins or list(self.length_bins) != sorted(set(self.length_bins)):
            raise ValueError(f"length_bins = {list(self.length_bins)} must increase; sort them")
        if (self.difficulty_bins is None) != (self.difficulty_weights is None):
            raise ValueError("difficulty_bins and difficulty_weights belong together; set both or neither")
        if self.difficulty_bins is None or self.difficulty_weights is None:
            return self
        if self.difficulty_bins.keys() != self.difficulty_weights.keys():
            raise ValueError(
                f"difficulty_bins name {sorted(self.difficulty_bins)} but difficulty_weights "
                f"{sorted(self.difficulty_weights)}; name the same bins"
            )
        if not sum(self.difficulty_weights.values()) > 0:
            raise ValueError("difficulty_weights are all 0; give at least one bin a weight")
        below = None
        for name, (low, high) in sorted(self.difficulty_bins.items(), key=lambda item: item[1]):
            if low > high or (below is not None and low <= below):
                raise ValueError(f"difficulty_bins.{name} = [{low}, {high}] is empty or overlaps another bin")
            below = high
        return self

    @property
    def paired(self) -> bool:
        """Whether a sample is a pair of rows."""
        return self.solutions in ("pairs", "length_balanced_pairs")


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
    row_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens that a packed row may hold; null = the longest sample where samples are counted, and the whole
    micro-batch in one row where tokens are."""

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
        return self
