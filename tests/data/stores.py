"""Small stores for these tests."""

from __future__ import annotations

import random
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from wmtp_ray.data.records import Case, Problem, Solution, Tests
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store


def synthetic_problems(num_problems: int, seed: int = 0, max_side: int = 8) -> list[Problem]:
    """Problems with 0 to `max_side` different programs on each side, at least one correct."""
    rng = random.Random(seed)
    problems = []
    for i in range(num_problems):
        correct, incorrect = rng.randint(0, max_side), rng.randint(0, max_side)
        solutions = [
            Solution(
                code=f"x = {i}_{j}\n" + "y += 1\n" * rng.randint(0, 20),
                is_correct=j < max(correct, 1),
                mutated_span=(0, j) if j >= max(correct, 1) else None,
                provenance=f"made {j}",
            )
            for j in range(max(correct, 1) + incorrect)
        ]
        rng.shuffle(solutions)
        problems.append(
            Problem(
                problem_id=f"p{i}",
                instruction=f"Problem {i}" + "." * rng.randint(0, 40),
                input="in" if i % 3 == 0 else "",
                solutions=tuple(solutions),
                split="valid" if i % 7 == 6 else "train",
                difficulty=i % 28,
                tags=("even",) if i % 2 == 0 else (),
                tests=Tests(kind="call", cases=(Case("f(1)", str(i)),)) if i % 2 else None,
            )
        )
    return problems


def build_store(
    path: Path, problems: list[Problem], tokenizer: PreTrainedTokenizerFast, max_length: int = 400
):
    """The store at `path`, opened."""
    write_store(path, problems, tokenizer, max_length, source="synthetic", tokenizer_fingerprint="bytes")
    return SolutionStore.open(path)
