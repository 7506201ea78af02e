"""The split of every problem, decided over all of them: near-duplicate problems are never on both sides.

Two problems are near-duplicates when their statements are, or when they share a long correct program word for word; a
cluster is what such pairs connect.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wmtp_ray.data.index import SPLITS
from wmtp_ray.data.near_duplicates import components, similar_pairs
from wmtp_ray.data.prepared import Kinship
from wmtp_ray.errors import DataError


@dataclass(frozen=True)
class Placement:
    """What was decided for one problem."""

    split: str
    cluster: int
    """Number of the first problem of its cluster."""
    leaks: str = ""
    """The held-out problem that it nearly equals though its source trains on it; it is left out."""


def place(
    problems: Sequence[Kinship], threshold: float, valid_share: float = 0.0, test_share: float = 0.0
) -> list[Placement]:
    """Cluster all problems of a store and choose the split of each.

    A split that the source names is kept; where it puts one of a cluster into `valid` or `test` and another into
    `train`, the latter `leaks`. Clusters in which no problem is held out by the source are held out whole, in the
    order of a hash of their smallest problem id, as long as they fit into `valid_share`, then `test_share`, of
    these problems: the same in any order and on any machine.
    """
    for problem in problems:
        if problem.split is not None and problem.split not in SPLITS:
            raise DataError(
                f"problem {problem.problem_id}: split {problem.split!r} is none of {', '.join(SPLITS)}"
            )
    cluster_of = components(len(problems), _related(problems, threshold))
    members: dict[int, list[int]] = defaultdict(list)
    for number, cluster in enumerate(cluster_of.tolist()):
        members[cluster].append(number)

    split_of: dict[int, str] = {}
    free: list[list[int]] = []
    held_out: dict[int, int] = {}
    for cluster, numbers in members.items():
        first = next((n for n in numbers if problems[n].split in ("valid", "test")), None)
        undecided = [n for n in numbers if problems[n].split is None]
        if first is not None:
            held_out[cluster] = first
            split_of.update(dict.fromkeys(undecided, problems[first].split or ""))
        elif len(undecided) == len(numbers):
            free.append(undecided)
    split_of |= _hold_out(problems, free, valid_share, test_share)

    def placement(number: int, problem: Kinship) -> Placement:
        cluster = int(cluster_of[number])
        split = problem.split or split_of.get(number, "train")
        leaks = problems[held_out[cluster]] if split == "train" and cluster in held_out else None
        return Placement(split, cluster, f"{leaks.problem_id} of {leaks.split}" if leaks else "")

    return [placement(number, problem) for number, problem in enumerate(problems)]


def _related(problems: Sequence[Kinship], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of problems that are near-duplicates: enough to connect each cluster."""
    stored = np.flatnonzero([problem.stored for problem in problems])
    if not stored.size:
        return
    statements = np.stack([problems[n].statement for n in stored])
    for a, b in similar_pairs(statements, threshold):
        yield int(stored[a]), int(stored[b])
    programs = np.concatenate([problems[n].programs for n in stored])
    owners = np.repeat(stored, [len(problems[n].programs) for n in stored])
    order = np.argsort(programs, kind="stable")
    same = np.flatnonzero(programs[order[1:]] == programs[order[:-1]])
    yield from zip(owners[order[same]].tolist(), owners[order[same + 1]].tolist(), strict=True)


def _hold_out(
    problems: Sequence[Kinship], clusters: list[list[int]], valid_share: float, test_share: float
) -> dict[int, str]:
    def rank(numbers: list[int]) -> bytes:
        name = min(problems[n].problem_id for n in numbers)
        return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()

    total = sum(len(numbers) for numbers in clusters)
    room = {"valid": round(valid_share * total), "test": round(test_share * total)}
    chosen: dict[int, str] = {}
    for numbers in sorted(clusters, key=rank):
        split = next((name for name, left in room.items() if len(numbers) <= left), None)
        if split:
            room[split] -= len(numbers)
            chosen.update(dict.fromkeys(numbers, split))
    return chosen
