"""The plan: which store rows, in which optimizer step, micro-batch and packed row.

A pure function of (store fingerprint, sampling section, plan section): no number of workers, no order of
events, no hash seed enters. It is made from the lengths in the index, before any text is
read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.data.index import ProblemIndex
from wmtp_ray.data.keyed import keyed_order
from wmtp_ray.data.layout import StepLayout, steps_by_count, steps_by_tokens
from wmtp_ray.data.planned import PlannedMicroBatch, PlannedStep
from wmtp_ray.data.sampling import SamplingReport, Selection, select
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError, DataError, StorageError
from wmtp_ray.storage.manifest import write_bytes_atomically

__all__ = [
    "Plan",
    "PlannedMicroBatch",
    "PlannedStep",
    "empty_plan",
    "make_plan",
    "plan_selection",
]

COLUMNS = {
    "epoch": np.int32,
    "step": np.int32,
    "micro_batch": np.int32,
    "packed_row": np.int32,
    "segment": np.int32,
    "row": np.int64,
    "tokens": np.int32,
    "targets": np.int32,
    "pair": np.int64,
    "correct": np.bool_,
}
"""`step` counts over all epochs, `micro_batch` within the step, `packed_row` within the micro-batch;
`pair` is -1 or the same number on both sides of a pair."""


@dataclass(frozen=True)
class Plan:
    """All steps of a run: one table row per segment, in order. `facts` (JSON): what it was made from."""

    columns: dict[str, np.ndarray]
    facts: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over facts and columns: equal fingerprints mean equal plans."""
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode())
        for name, dtype in COLUMNS.items():
            digest.update(self.columns[name].astype(np.dtype(dtype).newbyteorder("<")).tobytes())
        return digest.hexdigest()

    @property
    def num_steps(self) -> int:
        return len(self._step_bounds) - 1

    @property
    def useful_tokens(self) -> int:
        """Tokens without padding, over all steps."""
        return int(self.columns["tokens"].sum(dtype=np.int64))

    def step(self, number: int) -> PlannedStep:
        """Step `number`, from 0; `IndexError` past the end."""
        if not 0 <= number < self.num_steps:
            raise IndexError(f"the plan has steps 0..{self.num_steps - 1}, not {number}")
        part = slice(self._step_bounds[number], self._step_bounds[number + 1])
        columns = {name: column[part] for name, column in self.columns.items()}
        bounds = _bounds(columns["micro_batch"])
        return PlannedStep(
            number=number,
            epoch=int(columns["epoch"][0]),
            micro_batches=tuple(
                _micro_batch({name: column[a:b] for name, column in columns.items()})
                for a, b in itertools.pairwise(bounds)
            ),
        )

    def steps(self) -> Iterator[PlannedStep]:
        """All steps in order."""
        return (self.step(number) for number in range(self.num_steps))

    def waste(self, world_size: int = 1) -> float:
        """Share of computed tokens that is padding or waiting: 1 - useful / (ranks x tokens of fullest rank).

        A rank has the micro-batches m = rank, rank + world_size, ... of each step, and waits at its end.
        """
        if not self.num_steps:
            return 0.0
        c = self.columns
        row_bounds = _bounds(c["step"], c["micro_batch"], c["packed_row"])[:-1]
        fills = np.add.reduceat(c["tokens"].astype(np.int64), row_bounds)
        steps, numbers = c["step"][row_bounds], c["micro_batch"][row_bounds]
        bounds = _bounds(steps, numbers)
        padded = np.maximum.reduceat(fills, bounds[:-1]) * np.diff(bounds)
        load = np.zeros((self.num_steps, world_size), dtype=np.int64)
        np.add.at(load, (steps[bounds[:-1]], numbers[bounds[:-1]] % world_size), padded)
        return 1.0 - self.useful_tokens / (world_size * int(load.max(axis=1).sum()))

    def sampling_lines(self) -> list[str]:
        """What was there to sample and what was taken, one line for each stage of the curriculum."""
        if stages := self.facts.get("curriculum"):
            return [
                f"from epoch {stage['from_epoch']}: {SamplingReport.from_facts(stage['report']).line()}"
                for stage in stages
            ]
        return [SamplingReport.from_facts(self.facts["report"]).line()] if "report" in self.facts else []

    def check_store(self, store: SolutionStore) -> None:
        """`DataError` where this plan was made for another store."""
        if store.fingerprint != self.facts["store"]:
            raise DataError(
                f"the plan was made for store {self.facts['store'][:12]}, {store.path} is "
                f"{store.fingerprint[:12]}; use that store, or start a fresh run"
            )

    def save(self, path: Path) -> None:
        """Write `plan.parquet`, atomically."""
        metadata = {"facts": json.dumps(self.facts), "fingerprint": self.fingerprint}
        table = pa.table({name: self.columns[name] for name in COLUMNS}).replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_bytes_atomically(path, sink.getvalue().to_pybytes())

    @classmethod
    def load(cls, path: Path) -> Plan:
        """The plan saved at `path`; `StorageError` where it is missing, damaged or edited."""
        try:
            table = pq.read_table(path)
            metadata = table.schema.metadata
            plan = cls(
                columns={name: table[name].to_numpy().astype(dtype) for name, dtype in COLUMNS.items()},
                facts=json.loads(metadata[b"facts"]),
            )
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise StorageError(f"{path} is not a readable plan ({error}); start a fresh run") from error
        if metadata[b"fingerprint"].decode() != plan.fingerprint:
            raise StorageError(f"{path} was edited: its fingerprint does not match; start a fresh run")
        return plan

    @cached_property
    def _step_bounds(self) -> np.ndarray:
        return _bounds(self.columns["step"])


def make_plan(store: SolutionStore, sampling: SamplingConfig, config: PlanConfig) -> Plan:
    """Sample from the store and lay the samples out.

    Raises `ConfigError` or `DataError` (see `select`), `DataError` also where the store's splits cut a cluster of
    near-duplicate problems: what is held out would then be trained on.
    """
    if torn := store.index.torn_cluster():
        raise DataError(
            f"store {store.path} trains on only one of the near-duplicate problems {torn[0]!r} and {torn[1]!r}; "
            "prepare it again, or let one split have both"
        )
    selection = select(store.index, store.fingerprint, sampling)
    return plan_selection(store.index, store.fingerprint, selection, sampling, config)


def empty_plan(store: SolutionStore) -> Plan:
    """A plan without steps, for a run without held-out problems."""
    columns = {name: np.zeros(0, dtype) for name, dtype in COLUMNS.items()}
    return Plan(columns=columns, facts={"store": store.fingerprint})


def plan_selection(
    index: ProblemIndex, fingerprint: str, selection: Selection, sampling: SamplingConfig, config: PlanConfig
) -> Plan:
    """Lay `selection` out into epochs, steps, micro-batches and packed rows.

    Each epoch has its own order. Epochs do not share steps, so the last step of one may be smaller. A longer
    plan (more epochs or steps) begins with the shorter one's steps.
    """
    sizes = index.row_tokens[selection.rows].astype(np.int64)
    row_tokens = _row_tokens(sizes, config)
    shape = {k: v for k, v in config.identity.items() if k not in ("epochs", "max_steps")}
    key = (fingerprint, sampling.identity, shape)
    segments: list[tuple[int, ...]] = []
    step_number = 0
    for epoch in range(math.ceil(config.epochs)):
        share = min(1.0, config.epochs - epoch)
        samples = selection.of_epoch(epoch)
        order = samples[keyed_order(len(samples), *key, epoch)][: math.ceil(round(share * len(samples), 6))]
        for layout in _steps(sizes[order], config, row_tokens):
            if step_number == config.max_steps:
                break
            segments.extend(_segments(layout, order, epoch, step_number))
            step_number += 1
    names = ("epoch", "step", "micro_batch", "packed_row", "segment", "sample", "side")
    table = dict(zip(names, np.array(segments, dtype=np.int64).T, strict=True))
    rows = selection.rows[table["sample"], table["side"]]
    columns = {
        **table,
        "row": rows,
        "tokens": index.row_tokens[rows],
        "targets": index.row_targets[rows],
        "pair": table["sample"] if selection.paired else np.full(len(rows), -1),
        "correct": index.row_correct[rows],
    }
    facts = {
        "store": fingerprint,
        "sampling": sampling.identity,
        "plan": config.identity,
        "row_tokens": row_tokens,
        "report": asdict(selection.report),
    }
    if len(selection.stages) > 1:
        facts["curriculum"] = [
            {"from_epoch": stage.from_epoch, "report": asdict(stage.report)} for stage in selection.stages
        ]
    return Plan(
        columns={name: columns[name].astype(dtype) for name, dtype in COLUMNS.items()},
        facts=json.loads(json.dumps(facts)),
    )


def _steps(sizes: np.ndarray, config: PlanConfig, row_tokens: int) -> Iterator[StepLayout]:
    if config.samples_per_micro_batch is not None:
        return steps_by_count(
            sizes, config.micro_batches_per_step, config.samples_per_micro_batch, row_tokens
        )
    assert config.tokens_per_micro_batch is not None
    rows = config.tokens_per_micro_batch // row_tokens
    return steps_by_tokens(sizes, config.micro_batches_per_step, rows, row_tokens, config.even_for_workers)


def _row_tokens(sizes: np.ndarray, config: PlanConfig) -> int:
    """The tokens that a packed row holds, checked against the samples that must fit."""
    longest, longest_sample = int(sizes.max()), int(sizes.sum(axis=1).max())
    row_tokens = config.row_tokens or config.tokens_per_micro_batch or longest
    if longest > row_tokens:
        raise ConfigError(
            f"plan.row_tokens = {row_tokens}, but the longest sample has {longest} tokens; "
            "raise plan.row_tokens (or plan.tokens_per_micro_batch), or prepare with a smaller max_length"
        )
    one_row = config.tokens_per_micro_batch is not None and config.tokens_per_micro_batch // row_tokens == 1
    if one_row and longest_sample > row_tokens:
        raise ConfigError(
            f"plan.tokens_per_micro_batch = {config.tokens_per_micro_batch} is one row of {row_tokens}, but "
            f"the longest pair has {longest_sample} tokens; raise plan.tokens_per_micro_batch"
        )
    return row_tokens


def _segments(layout: StepLayout, order: np.ndarray, epoch: int, step: int) -> Iterator[tuple[int, ...]]:
    for m, micro_batch in enumerate(layout):
        for r, row in enumerate(micro_batch):
            for segment, (place, side) in enumerate(row):
                yield epoch, step, m, r, segment, int(order[place]), side


def _micro_batch(columns: dict[str, np.ndarray]) -> PlannedMicroBatch:
    bounds = _bounds(columns["packed_row"])
    pair, correct = columns["pair"], columns["correct"]
    sides = [np.flatnonzero((pair >= 0) & (correct == label)) for label in (True, False)]
    matched = [side[np.argsort(pair[side], kind="stable")] for side in sides]
    return PlannedMicroBatch(
        packed_rows=tuple(tuple(columns["row"][a:b].tolist()) for a, b in itertools.pairwise(bounds)),
        tokens=columns["tokens"].copy(),
        targets=columns["targets"].copy(),
        correct=correct.copy(),
        pairs=np.stack(matched, axis=1),
    )


def _bounds(*columns: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin, and the end: [3 3 5] -> [0 2 3]; empty -> [0]."""
    size = columns[0].size
    if not size:
        return np.zeros(1, dtype=np.int64)
    change = np.zeros(size - 1, dtype=bool)
    for column in columns:
        change |= column[1:] != column[:-1]
    return np.r_[0, np.flatnonzero(change) + 1, size]
