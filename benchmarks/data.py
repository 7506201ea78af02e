"""Reading, sampling and planning on a synthetic store of 2 million rows and 13,000 problems, and what packing gains.

Lengths are log-normal around those of CodeContests, at most 2048 tokens. The store is written column by column: its
lengths are drawn, not counted (`benchmarks/prepare.py` measures preparing).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figure import Figure
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.data.index import ProblemIndex
from wmtp_ray.data.plan import Plan, plan_selection
from wmtp_ray.data.sampling import Selection, select
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import LAYOUT, PROBLEM_INDEX, PROBLEM_TEXT, ROW_INDEX, ROW_TEXT
from wmtp_ray.storage.manifest import write_manifest

ROWS, PROBLEMS = 2_000_000, 13_000
MAX_LENGTH = 2048
PAIRS = 200_000
RANKS = range(1, 9)


def figures() -> Iterator[Figure]:
    """Load, read, sample, plan, and train on what was planned."""
    with tempfile.TemporaryDirectory(prefix="wmtp-bench-") as folder:
        path = Path(folder) / "store"
        write_store(path)
        yield _loading(path)
        yield _random_reading(path)
        yield from _pairs(path)
        yield from _plans(SolutionStore.open(path, "sizes"))


def write_store(path: Path) -> None:
    """The synthetic store: programs of 8 lines out of 200, 40% of them correct."""
    path.mkdir()
    rng = np.random.default_rng(0)
    per_problem = rng.multinomial(ROWS, rng.dirichlet(np.full(PROBLEMS, 0.7)))
    problem = np.repeat(np.arange(PROBLEMS, dtype=np.int32), per_problem)
    prompts = np.minimum(np.exp(rng.normal(6.0, 0.5, PROBLEMS)), 1500).astype(np.int32)
    responses = np.exp(rng.normal(5.3, 0.8, ROWS)).astype(np.int32) + 5
    tokens = np.minimum(prompts[problem] + responses, MAX_LENGTH).astype(np.int32)
    numbers = np.arange(PROBLEMS, dtype=np.int32)
    rows = [
        problem,
        rng.random(ROWS) < 0.4,
        tokens,
        tokens - prompts[problem],
        np.arange(ROWS, dtype=np.int32),
    ]
    pq.write_table(pa.table(dict(zip(ROW_INDEX.names, rows, strict=True)), ROW_INDEX), path / "rows.parquet")
    problems = {
        "problem_id": [f"p{i}" for i in range(PROBLEMS)],
        "split": np.zeros(PROBLEMS, dtype=np.int8),
        "difficulty": numbers % 28,
        "cf_rating": 800 + numbers % 28 * 100,
        "tags": [[]] * PROBLEMS,
        "cluster": numbers,
    }
    pq.write_table(pa.table(problems, PROBLEM_INDEX), path / "problems.parquet")

    lines = [f"    value_{i} = step_{i % 7}(values[{i}], {i * 3})\n" for i in range(200)]
    programs = pa.array(["def solve(values):\n" + "".join(lines[s : s + 8]) for s in range(190)])
    output = programs.take(pa.array(rng.integers(0, 190, ROWS)))
    spans = pa.nulls(ROWS, pa.int32())
    row_text = [output, pa.repeat("python3", ROWS), pa.repeat("synthetic", ROWS), spans, spans]
    statements = pa.repeat("Read numbers and print their sum. " * 10, PROBLEMS)
    problem_text = [statements, pa.repeat("", PROBLEMS), pa.nulls(PROBLEMS, pa.string())]
    for name, schema, columns in (("rows", ROW_TEXT, row_text), ("problems", PROBLEM_TEXT, problem_text)):
        with pa.OSFile(str(path / f"{name}.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            stream.write_table(pa.table(columns, schema), max_chunksize=1024)
    facts = {"counts": {"rows_kept": ROWS}, "tokenizer_fingerprint": "none", "max_length": MAX_LENGTH}
    write_manifest(path, "store", layout=LAYOUT, source="synthetic", **facts)


def _loading(path: Path) -> Figure:
    def load() -> None:
        index = SolutionStore.open(path, "sizes").index
        assert index.correct.rows.size + index.incorrect.rows.size == ROWS

    def read() -> None:
        for name in ("rows", "problems"):
            pq.read_table(path / f"{name}.parquet")

    read()
    bare, seconds = (min(_seconds(run) for _ in range(3)) for run in (read, load))
    return Figure(
        "metadata_load_seconds", seconds, "s", f"reading the two Parquet files alone: {bare:.2f} s", "< 1"
    )


def _random_reading(path: Path) -> Figure:
    store = SolutionStore.open(path, "sizes")

    def scan() -> None:
        for start in range(0, ROWS, 4096):
            store.read(range(start, min(start + 4096, ROWS)))

    rows = np.random.default_rng(0).integers(0, ROWS, 2000)
    whole, some = _seconds(scan), _seconds(lambda: store.read(rows))
    return Figure(
        "random_read_vs_scan",
        whole / some,
        "x faster",
        f"front to back {whole:.1f} s, 2,000 random rows {some:.3f} s",
        ">= 20",
    )


def _pairs(path: Path) -> Iterator[Figure]:
    config = SamplingConfig(solutions="length_balanced_pairs", num_samples=PAIRS)
    before = _restart_peak()
    store = SolutionStore.open(path, "sizes")
    index = store.index
    seconds = min(_seconds(lambda: select(index, store.fingerprint, config)) for _ in range(2))
    grown = _peak() - before
    by_lists = min(_seconds(lambda: _pairs_by_lists(index, config)) for _ in range(2))
    yield Figure(
        "pair_sampling_200k_seconds", seconds, "s", f"lists and loops in Python: {by_lists:.1f} s", "<= 5"
    )
    held = sum(column.nbytes for column in (index.row_problem, index.row_correct, index.row_tokens)) / 1e6
    yield Figure(
        "pair_sampling_peak_memory", grown, "MB", f"the columns that it reads: {held:.0f} MB", "<= 1000"
    )


def _pairs_by_lists(index: ProblemIndex, config: SamplingConfig) -> list[tuple[int, int]]:
    """Length-balanced pairs as one writes them first: dictionaries of lists, shuffled and matched."""
    rng = random.Random(0)
    bins = np.searchsorted(config.length_bins, index.row_targets, side="right").tolist()
    sides: dict[tuple[int, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    labels = index.row_correct.tolist()
    for row, problem in enumerate(index.row_problem.tolist()):
        sides[problem, bins[row]][labels[row]].append(row)
    pairs = []
    for wrong, correct in sides.values():
        rng.shuffle(wrong)
        rng.shuffle(correct)
        pairs.extend(zip(correct, wrong, strict=False))
    return rng.sample(pairs, config.num_samples or len(pairs))


def _plans(store: SolutionStore) -> Iterator[Figure]:
    """50,000 samples in micro-batches of at most 8,192 tokens: equal ones, and those that any ranks can share."""
    sampling = SamplingConfig(solutions="correct", num_samples=50_000)
    selection = select(store.index, store.fingerprint, sampling)

    def plan(micro_batches: int, even_for: int | None) -> Plan:
        shape = PlanConfig(
            micro_batches_per_step=micro_batches,
            tokens_per_micro_batch=4 * MAX_LENGTH,
            even_for_workers=even_for,
        )
        return plan_selection(store.index, store.fingerprint, selection, sampling, shape)

    def worst(made: Plan, ranks: list[int]) -> tuple[float, str]:
        waste = {r: made.waste(r) for r in ranks}
        return max(waste.values()), ", ".join(f"{r}: {share:.3f}" for r, share in waste.items())

    equal, even = plan(24, None), plan(24, 8)
    share, by_ranks = worst(even, list(RANKS))
    share_equal, by_ranks_equal = worst(equal, list(RANKS))
    yield Figure(
        "plan_waste_share",
        share,
        "of tokens, worst of 1 to 8 ranks",
        f"24 micro-batches, by ranks {by_ranks}; of equal size {share_equal:.3f} ({by_ranks_equal})",
        "<= 0.03",
    )
    for micro_batches in (8, 16):
        made = plan(micro_batches, None)
        dividing = [r for r in RANKS if micro_batches % r == 0]
        share, by_ranks = worst(made, dividing)
        others = worst(made, [r for r in RANKS if r not in dividing])[1]
        yield Figure(
            f"plan_waste_share_{micro_batches}_micro_batches",
            share,
            "of tokens, worst of the ranks that divide them",
            f"by ranks {by_ranks}; too few to share evenly among others: {others}",
            "<= 0.03",
        )
    at_random = _spread_at_random(store.index, selection, equal)
    for name, made in (("", equal), ("_even", even)):
        spread = _spread(store.index, made)
        yield Figure(
            f"plan_length_spread{name}",
            spread / at_random,
            "x random",
            f"standard deviation of a step's mean length {spread:.1f} tokens, in a random plan {at_random:.1f}",
            "0.5..1.5",
        )


def _spread(index: ProblemIndex, plan: Plan) -> float:
    """Standard deviation over full steps of the mean length of a step's samples."""
    steps = plan.columns["step"]
    sums = np.bincount(steps, plan.columns["tokens"])
    return float((sums / np.bincount(steps))[:-1].std())


def _spread_at_random(index: ProblemIndex, selection: Selection, plan: Plan) -> float:
    """The same where steps of as many samples are cut from a random order."""
    lengths = np.random.default_rng(1).permutation(index.row_tokens[selection.rows[:, 0]])
    samples = len(lengths) // plan.num_steps
    return float(lengths[: samples * plan.num_steps].reshape(plan.num_steps, samples).mean(axis=1).std())


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _restart_peak() -> float:
    """Count this process's peak memory from here; returns its memory now, in MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
