"""What is asked of a sampling engine, and what it gives back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One sample to draw. Its `seed` belongs to (run seed, problem, sample), so it does not matter who draws
    it, or when."""

    benchmark: str
    problem_id: str
    sample: int
    prompt: str
    stops: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Decoding:
    """How tokens are drawn. `temperature` 0 is greedy."""

    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True)
class Completion:
    """One drawn sample. `cut`: sampling ended at a length limit, not at the end of sequence or a stop string."""

    benchmark: str
    problem_id: str
    sample: int
    text: str
    tokens: int
    cut: bool


def request_seed(seed: int, benchmark: str, problem_id: str, sample: int) -> int:
    """31 bits from (run seed, benchmark, problem, sample); the same for every model, and on every machine."""
    digest = hashlib.sha256(f"{seed}/{benchmark}/{problem_id}/{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1
