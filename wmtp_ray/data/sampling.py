"""Which rows are trained on: a pure function of (store fingerprint, sampling section).

Everything works on the columns of the index; no text is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wmtp_ray.config.data import SamplingConfig
from wmtp_ray.data.folds import problem_folds
from wmtp_ray.data.index import ProblemIndex, Side
from wmtp_ray.data.keyed import keyed_bits, keyed_order, rank_in_group
from wmtp_ray.errors import ConfigError, DataError


@dataclass(frozen=True)
class BinReport:
    """One difficulty bin: samples asked of it by its weight, found in it, and taken after refilling."""

    name: str
    requested: int
    available: int
    selected: int


@dataclass(frozen=True)
class SamplingReport:
    """What was there and what was taken. A sample is a single solution or a pair."""

    available: int
    selected: int
    outside_bins: int
    """Samples of problems whose difficulty lies in no bin."""
    bins: tuple[BinReport, ...] = ()

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> SamplingReport:
        """The inverse of `dataclasses.asdict` through JSON."""
        bins = tuple(BinReport(**of_bin) for of_bin in facts["bins"])
        return cls(facts["available"], facts["selected"], facts["outside_bins"], bins)

    def line(self) -> str:
        """One line for the log."""
        bins = "".join(
            f"; {b.name}: {b.selected:,} of {b.available:,}"
            + (f" (short of {b.requested:,})" if b.available < b.requested else "")
            for b in self.bins
        )
        outside = f"; {self.outside_bins:,} outside every bin" if self.bins else ""
        return f"{self.selected:,} of {self.available:,} samples{bins}{outside}"


@dataclass(frozen=True)
class Stage:
    """What the epochs from `from_epoch` to the next stage train on."""

    from_epoch: int
    samples: np.ndarray
    """[n] int64, increasing: numbers of samples of the selection"""
    report: SamplingReport


@dataclass(frozen=True)
class Selection:
    """U samples in random order, and which of them each stage of the curriculum takes (without one: all)."""

    rows: np.ndarray
    """[U, 1] int64 store rows, or [U, 2]: the correct and the incorrect row of each pair."""
    stages: tuple[Stage, ...]

    @property
    def paired(self) -> bool:
        return self.rows.shape[1] == 2

    @property
    def report(self) -> SamplingReport:
        """Of the first stage."""
        return self.stages[0].report

    def __len__(self) -> int:
        return len(self.rows)

    def of_epoch(self, epoch: int) -> np.ndarray:
        """[n] int64: the samples that an epoch (from 0) trains on."""
        return max((s for s in self.stages if s.from_epoch <= epoch), key=lambda s: s.from_epoch).samples


def select(index: ProblemIndex, fingerprint: str, config: SamplingConfig) -> Selection:
    """Draw the samples that `config` asks for.

    Each stage draws from every bin as many as its weights allot, always the first ones of one random order of the bin:
    so stages share as many samples as they can. `fingerprint` is the store's. Raises `ConfigError` where more is asked
    for than there is (unless `allow_fewer`), `DataError` where there is nothing at all.
    """
    key = (fingerprint, config.identity)
    if config.without_fold is not None:
        left_out, folds = config.without_fold
        index = replace(index, split=np.where(problem_folds(index, folds) == left_out, -1, index.split))
    candidates = _pairs(index, config, key) if config.paired else _singles(index, config)
    candidates = _capped(index, candidates, config.max_per_problem, key)
    bins = _binned(index, candidates, config)
    order = keyed_order(len(candidates), *key, "draw")
    order = order[bins[order] >= 0]
    order = order[np.argsort(bins[order], kind="stable")]
    place = rank_in_group(bins[order])
    stages = {0: config.difficulty_weights} | {s.from_epoch: s.difficulty_weights for s in config.curriculum}
    chosen, reports = [], []
    for epoch, weights in stages.items():
        taken, report = _allotted(bins, weights, config, epoch)
        chosen.append(np.sort(order[place < taken[bins[order]]]))
        reports.append(report)
    used = np.unique(np.concatenate(chosen))
    shuffled = used[keyed_order(len(used), *key, "order")]
    return Selection(
        rows=candidates[shuffled],
        stages=tuple(
            Stage(epoch, np.flatnonzero(np.isin(shuffled, mine, assume_unique=True)), report)
            for epoch, mine, report in zip(stages, chosen, reports, strict=True)
        ),
    )


def _singles(index: ProblemIndex, config: SamplingConfig) -> np.ndarray:
    side = index.correct if config.solutions == "correct" else index.every
    return side.rows[index.in_split(config.split)[side.problems]][:, None]


def _pairs(index: ProblemIndex, config: SamplingConfig, key: tuple) -> np.ndarray:
    """[n, 2]: both sides of every (problem, length bin), shuffled, matched 1:1 as far as the shorter goes."""
    in_split = index.in_split(config.split)
    balanced = config.solutions == "length_balanced_pairs"
    num_bins = len(config.length_bins) if balanced else 1
    num_groups = index.num_problems * num_bins

    def shuffled(side: Side, name: str) -> tuple[np.ndarray, np.ndarray]:
        mask = in_split[side.problems]
        groups = side.problems[mask].astype(np.int64) * num_bins
        rows = side.rows[mask]
        if balanced:
            bins = np.searchsorted(config.length_bins, side.targets[mask], side="right") - 1
            groups, rows = (groups + bins)[bins >= 0], rows[bins >= 0]
        order = np.lexsort((keyed_bits(rows.size, *key, name), groups))
        return groups[order], rows[order]

    (groups_c, rows_c), (groups_i, rows_i) = (
        shuffled(index.correct, "correct"),
        shuffled(index.incorrect, "wrong"),
    )
    partners = np.minimum(
        np.bincount(groups_c, minlength=num_groups), np.bincount(groups_i, minlength=num_groups)
    )
    matched_c = rows_c[rank_in_group(groups_c) < partners[groups_c]]
    matched_i = rows_i[rank_in_group(groups_i) < partners[groups_i]]
    return np.stack([matched_c, matched_i], axis=1)


def _capped(index: ProblemIndex, candidates: np.ndarray, cap: int | None, key: tuple) -> np.ndarray:
    """At most `cap` samples of each problem, chosen at random."""
    if cap is None:
        return candidates
    problems = index.row_problem[candidates[:, 0]]
    order = np.lexsort((keyed_bits(len(candidates), *key, "cap"), problems))
    return candidates[np.sort(order[rank_in_group(problems[order]) < cap])]


def _binned(index: ProblemIndex, candidates: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """[n] int64: the difficulty bin of each candidate, -1 for none; all 0 without bins."""
    if config.difficulty_bins is None:
        return np.zeros(len(candidates), dtype=np.int64)
    of_problem = index.difficulty if config.difficulty_by == "difficulty" else index.cf_rating
    difficulty = of_problem[index.row_problem[candidates[:, 0]]]
    bins = np.full(len(candidates), -1)
    for number, (low, high) in enumerate(config.difficulty_bins.values()):
        bins[(difficulty >= low) & (difficulty <= high)] = number
    return bins


def _allotted(
    bins: np.ndarray, weights: dict[str, float] | None, config: SamplingConfig, epoch: int
) -> tuple[np.ndarray, SamplingReport]:
    """How many samples to take from each bin, and what to say of it."""
    names = list(config.difficulty_bins or ())
    share = np.array([weights[name] for name in names]) if weights is not None else np.ones(1)
    in_bins = np.bincount(bins[bins >= 0], minlength=len(share))
    usable = int(in_bins[share > 0].sum())
    wanted = usable if config.num_samples is None else config.num_samples
    where = f"split {config.split!r}" + (f" in the bins of epoch {epoch}" if epoch else "")
    if usable == 0:
        raise DataError(
            f"no {_what(config)} in {where} of the store ({len(bins)} before difficulty bins); check "
            "sampling.split, sampling.difficulty_by and sampling.difficulty_bins, or prepare more data"
        )
    if wanted > usable and not config.allow_fewer:
        raise ConfigError(
            f"sampling.num_samples = {wanted}, but {where} has only {usable} {_what(config)}; "
            "lower it or set sampling.allow_fewer=true"
        )
    if config.num_samples is None:
        requested = taken = in_bins * (share > 0)
    else:
        endless = np.full(len(share), np.iinfo(np.int64).max)
        requested, taken = (allot(wanted, share, there) for there in (endless, in_bins))
    counts = zip(names, requested.tolist(), in_bins.tolist(), taken.tolist(), strict=False)
    report = SamplingReport(
        available=len(bins),
        selected=int(taken.sum()),
        outside_bins=int((bins < 0).sum()),
        bins=tuple(BinReport(*of_bin) for of_bin in counts),
    )
    return taken, report


def allot(total: int, weights: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Split `total` over bins in proportion to `weights`; what a bin is short of goes to the others likewise.

    Returns [bins] int64 with sum min(total, what bins of positive weight hold). Fractions go to the largest
    remainder, the first bin winning ties.

    >>> allot(10, np.array([0.5, 0.3, 0.2]), np.array([2, 100, 100])).tolist()
    [2, 5, 3]
    """
    taken = np.zeros(len(weights), dtype=np.int64)
    while True:
        room = available - taken
        open_weights = np.where((room > 0) & (weights > 0), weights, 0.0)
        left = total - int(taken.sum())
        if left == 0 or not open_weights.any():
            return taken
        exact = left * open_weights / open_weights.sum()
        share = np.floor(exact).astype(np.int64)
        for b in np.argsort(-(exact - share), kind="stable")[: left - int(share.sum())]:
            share[b] += 1
        taken += np.minimum(share, room)


def _what(config: SamplingConfig) -> str:
    return {
        "correct": "correct solutions",
        "all": "solutions",
        "pairs": "pairs of a correct and an incorrect solution",
        "length_balanced_pairs": "pairs of the same length bin",
    }[config.solutions]
