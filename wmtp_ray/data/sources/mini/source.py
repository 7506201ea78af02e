"""The mini data set as a source: small Python problems with programs that are made and labelled on the spot."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from wmtp_ray.data.records import Problem
from wmtp_ray.data.sources.mini.labelling import label
from wmtp_ray.data.sources.mini.problems import load_families
from wmtp_ray.data.sources.mini.spec import MiniProblem
from wmtp_ray.errors import DataError

HELD_OUT_SHARE = 0.15
"""Share of the problems in `valid`, and again in `test`."""


@dataclass(frozen=True)
class MiniSource:
    """Every problem is a partition, so that a cluster labels them in parallel. About 25 sandbox runs each.

    The same problems, programs, labels and splits on any machine and in any process: all randomness is seeded from
    names.
    """

    families: tuple[str, ...] | None = None
    """Families to use; all of them by default."""

    def partitions(self) -> list[str]:
        """The problems' names, by family and in the order of its file."""
        return [problem.name for problems in self._chosen().values() for problem in problems]

    def problems(self, partition: str) -> Iterator[Problem]:
        """The one problem of that name, with its labelled programs. Runs them; takes about a second.

        Raises:
            DataError: there is no such problem, or one of its correct programs fails; names it.
            SandboxError: this machine cannot isolate programs.
        """
        for family, problems in self._chosen().items():
            for problem in problems:
                if problem.name == partition:
                    labelled = label(problem)
                    yield Problem(
                        problem_id=f"mini/{family}/{problem.name}",
                        instruction=problem.statement,
                        solutions=labelled.solutions,
                        split=assign_splits(family, problems)[problem.name],
                        difficulty=problem.difficulty,
                        tags=(family,),
                        tests=labelled.tests,
                    )
                    return
        raise DataError(
            f"mini data set: there is no problem {partition!r}; MiniSource().partitions() lists them"
        )

    def _chosen(self) -> dict[str, tuple[MiniProblem, ...]]:
        families = load_families()
        unknown = sorted(set(self.families or ()) - set(families))
        if unknown:
            raise DataError(f"mini data set: there are no families {unknown}; choose from {sorted(families)}")
        return {
            name: problems
            for name, problems in families.items()
            if self.families is None or name in self.families
        }


def assign_splits(family: str, problems: tuple[MiniProblem, ...]) -> dict[str, str]:
    """The split of every problem of a family: 15% `valid`, 15% `test`, at random but for ever the same.

    Halves are rounded up for one of the two, which one depending on the family's name, so that all families together
    keep the shares: of 10 problems 2 go to one of them and 1 to the other.
    """
    share = HELD_OUT_SHARE * len(problems)
    luck = _fraction(family)
    valid, test = math.floor(share + luck), math.floor(share + 1 - luck)
    ordered = sorted((problem.name for problem in problems), key=lambda name: (_fraction(name), name))
    names = ["valid"] * valid + ["test"] * test
    return {name: names[rank] if rank < len(names) else "train" for rank, name in enumerate(ordered)}


def _fraction(name: str) -> float:
    """A fixed number in [0, 1) for every name."""
    return int.from_bytes(hashlib.sha256(f"mini/{name}".encode()).digest()[:6], "big") / 2**48
