"""Data at the size of CodeContests: a synthetic store of 2 million rows and 13,000 problems.

Lengths follow a log-normal around those of CodeContests. The large store is written without tokenising (its lengths are
drawn), so that the benchmark takes minutes; `benchmarks.prepare` measures preparing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.data.plan import plan_selection
from wmtp_ray.data.prepared import Kinship, PreparedProblem
from wmtp_ray.data.records import Problem, Solution
from wmtp_ray.data.sampling import select
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import StoreWriter

ROWS, PROBLEMS = 2_000_000, 13_000
MAX_LENGTH = 2048
LINES = [f"    value_{i} = step_{i % 7}(values[{i}], {i * 3})\n" for i in range(200)]


def synthetic(num_rows: int, num_problems: int) -> Iterator[PreparedProblem]:
    """Prepared problems whose text and lengths are drawn, about 200 to 400 characters a program."""
    rng = np.random.default_rng(0)
    per_problem = rng.multinomial(num_rows, rng.dirichlet(np.full(num_problems, 0.7)))
    for p, n in enumerate(per_problem.tolist()):
        prompt = int(min(np.exp(rng.normal(6.0, 0.5)), 1500))
        responses = np.exp(rng.normal(5.3, 0.8, n)).astype(np.int32) + 5
        tokens = np.minimum(prompt + responses, MAX_LENGTH).astype(np.int32)
        starts = rng.integers(0, 190, n).tolist()
        correct = (rng.random(n) < 0.4).tolist()
        solutions = tuple(
            Solution(f"def solve_{i}(values):\n" + "".join(LINES[s : s + 8]), label)
            for i, (s, label) in enumerate(zip(starts, correct, strict=True))
        )
        problem = Problem(f"p{p}", "Read numbers and print their sum. " * 10, solutions, difficulty=p % 28)
        alone = np.arange(n, dtype=np.int32)
        kinship = Kinship(problem.problem_id, None, True, np.zeros(0, np.uint32), np.zeros(0, np.uint64))
        yield PreparedProblem(problem, tokens, tokens - np.int32(prompt), 0, (), n, alone, kinship)


def write(path: Path, num_rows: int, num_problems: int) -> None:
    """A synthetic store at `path`."""
    with StoreWriter(path) as writer:
        for problem in synthetic(num_rows, num_problems):
            writer.add(problem)
        writer.finish(source="synthetic", tokenizer_fingerprint="none", max_length=MAX_LENGTH)


def figures() -> Iterator[Figure]:
    """Load, sample, read and plan."""
    with tempfile.TemporaryDirectory(prefix="wmtp-bench-") as folder:
        path = Path(folder) / "store"
        write(path, ROWS, PROBLEMS)
        yield from _reading(path)
        yield from _planning(SolutionStore.open(path, "sizes"))


def _restart_peak() -> float:
    """Count this process's peak memory from here; returns its memory now, in MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _reading(path: Path) -> Iterator[Figure]:
    loads = []
    for _ in range(3):
        started = time.perf_counter()
        index = SolutionStore.open(path, "sizes").index
        assert index.correct.rows.size + index.incorrect.rows.size == ROWS
        loads.append(time.perf_counter() - started)
    yield Figure(
        "metadata_load_seconds", min(loads), "s", f"{ROWS:,} rows; slowest of 3 {max(loads):.2f} s", "< 1"
    )

    store = SolutionStore.open(path, "sizes")
    started = time.perf_counter()
    characters = 0
    for start in range(0, ROWS, 4096):
        characters += sum(len(row.output) for row in store.read(range(start, min(start + 4096, ROWS))))
    scan = time.perf_counter() - started
    rows = np.random.default_rng(0).integers(0, ROWS, 2000)
    started = time.perf_counter()
    store.read(rows)
    random = time.perf_counter() - started
    yield Figure("random_read_vs_scan", scan / random, "x faster", f"scan of all rows {scan:.1f} s", ">= 20")


def _planning(store: SolutionStore) -> Iterator[Figure]:
    before = _restart_peak()
    sampling = SamplingConfig(solutions="length_balanced_pairs", num_samples=200_000)
    started = time.perf_counter()
    select(store.index, store.fingerprint, sampling)
    seconds = time.perf_counter() - started
    grown = f"{_peak() - before:.0f} MB more at its peak, index included"
    yield Figure("pair_sampling_200k_seconds", seconds, "s", grown, "<= 5")

    sampling = SamplingConfig(solutions="correct", num_samples=50_000)
    selection = select(store.index, store.fingerprint, sampling)
    config = PlanConfig(
        micro_batches_per_step=8, tokens_per_micro_batch=4 * MAX_LENGTH, row_tokens=MAX_LENGTH
    )
    plan = plan_selection(store.index, store.fingerprint, selection, sampling, config)
    means = [np.concatenate([m.tokens for m in step.micro_batches]).mean() for step in plan.steps()][:-1]
    lengths = store.index.row_tokens[selection.rows]
    random_spread = lengths.std() / np.sqrt(len(selection) / plan.num_steps)
    waste = {ranks: plan.waste(ranks) for ranks in (1, 2, 4, 8)}
    for ranks, share in waste.items():
        yield Figure(
            f"plan_waste_share_{ranks}_ranks",
            share,
            "of tokens",
            f"padding to {MAX_LENGTH}: {1 - lengths.mean() / MAX_LENGTH:.2f}",
            "<= 0.03",
        )
    yield Figure(
        "plan_length_spread",
        float(np.std(means) / random_spread),
        "x random",
        f"mean length of a step, standard deviation {random_spread:.1f} tokens in a random plan",
        "0.5..1.5",
    )
