"""From a problem's references to labelled programs. Every label is the outcome of running the tests in the sandbox.

1. References and rewrites of them are the *bases*: all must pass, or the problem (or a rewrite rule) is wrong.
2. Each base is mutated until one of its mutants fails: that is the base's incorrect partner. So both sides have the
   same distribution of layout, names and constructs, up to one edit.
3. A mutant that passes is run on many more generated inputs. If it agrees there too it is a correct program, and a base
   like the others; if not, it is dropped, for the tests cannot tell.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from wmtp_ray.data.records import Solution, Tests
from wmtp_ray.data.sources.mini.cases import make_tests
from wmtp_ray.data.sources.mini.kinds import Signature
from wmtp_ray.data.sources.mini.mutation import Mutant, mutants
from wmtp_ray.data.sources.mini.rewrites import shape, variants
from wmtp_ray.data.sources.mini.spec import MiniProblem
from wmtp_ray.errors import DataError, InfraError
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.verify import Verdict, verify

BASES = 10
MOST_SURVIVORS = 2
MOST_RUNS_PER_BASE = 8
MOST_IMBALANCE = 30
"""Characters by which all incorrect programs of a problem together may exceed their bases, where there is a choice."""
_LIMITS = Limits(cpu_seconds=1, wall_seconds=60, memory_mb=512)
_PATIENT = Limits(cpu_seconds=10, wall_seconds=120, memory_mb=512)
_ATTEMPTS = 3


@dataclass
class Labelled:
    """The labelled programs of one problem and what it took: `counts` of runs by what came of them."""

    solutions: tuple[Solution, ...]
    tests: Tests
    counts: Counter[str] = field(default_factory=Counter)


def label(problem: MiniProblem) -> Labelled:
    """Correct and incorrect programs of one problem, as many of one kind as of the other, alternating.

    Raises:
        DataError: a reference or a rewrite fails the tests; names the problem, the program's origin and the case.
        InfraError: the sandbox failed repeatedly.
    """
    tests, further, signature = make_tests(problem)
    counts: Counter[str] = Counter()
    rng = random.Random(f"mini/{problem.name}/programs")
    bases: list[tuple[str, str]] = []
    for variant in variants(problem.references, signature, BASES, rng):
        verdict = run(variant.text, tests, counts, patient=True)
        if verdict.passed and variant.is_reference and further.cases:
            verdict = run(variant.text, further, counts, patient=True)
        if not verdict.passed:
            raise DataError(
                f"mini problem {problem.name!r}: {variant.provenance} fails: {verdict.status}: {verdict.detail}; "
                f"mend the problem's file or the rewrite rule:\n{variant.text}"
            )
        bases.append((variant.text, variant.provenance))
    solutions: list[Solution] = []
    seen = {text for text, _ in bases} | {shape(text) for text, _ in bases}
    survivors = 0
    balance = 0  # characters that the mutants so far have more than their bases
    for text, provenance in bases:  # grows while it is walked through
        partner = None
        for mutant in _candidates(text, signature, rng, seen, balance):
            outcome = _outcome(mutant, tests, further, counts)
            if outcome == "incorrect":
                partner = mutant
                break
            if outcome == "correct" and survivors < MOST_SURVIVORS:
                survivors += 1
                bases.append((mutant.text, f"{provenance}; {mutant.operator} (changes nothing)"))
        if partner is None:
            counts["base without an incorrect partner"] += 1
            continue
        origin = f"{provenance}; {partner.operator}"
        balance += len(partner.text) - len(text)
        solutions.append(Solution(text, True, provenance=provenance))
        solutions.append(Solution(partner.text, False, provenance=origin, mutated_span=partner.span))
    return Labelled(tuple(solutions), tests, counts)


def _candidates(
    text: str, signature: Signature, rng: random.Random, seen: set[str], balance: int
) -> Iterator[Mutant]:
    """The first few mutants of a base that differ from every program so far by more than names.

    Those that would take the problem's incorrect programs further from the length of the correct ones come last.
    """
    waiting: list[Mutant] = []
    tried = 0

    def in_turn() -> Iterator[Mutant]:
        for mutant in mutants(text, signature, rng):
            after = abs(balance + len(mutant.text) - len(text))
            if after > max(abs(balance), MOST_IMBALANCE):
                waiting.append(mutant)
            else:
                yield mutant
        yield from waiting

    for mutant in in_turn():
        form = shape(mutant.text)
        if mutant.text in seen or form in seen:
            continue
        seen.update((mutant.text, form))
        yield mutant
        tried += 1
        if tried == MOST_RUNS_PER_BASE:
            return


def _outcome(mutant: Mutant, tests: Tests, further: Tests, counts: Counter[str]) -> str:
    """`incorrect`, `correct`, or `undecided` for a mutant that only the further cases tell from a reference."""
    verdict = run(mutant.text, tests, counts)
    if not verdict.passed:
        counts[f"mutant: {verdict.status}"] += 1
        return "incorrect"
    agrees = not further.cases or run(mutant.text, further, counts).passed
    outcome = "correct" if agrees else "undecided"
    counts[f"mutant: {outcome}"] += 1
    return outcome


def run(program: str, tests: Tests, counts: Counter[str], patient: bool = False) -> Verdict:
    """One verdict on the program itself: faults of the sandbox and of a busy machine are repeated, never judged.

    CPU time is what limits a program, since it does not depend on the machine's load. `patient` allows ten times as
    much.
    """
    for _ in range(_ATTEMPTS):
        verdict = verify(program, tests, _PATIENT if patient else _LIMITS)
        counts["runs"] += 1
        if verdict.status != "sandbox_fault" and not (
            verdict.status == "timeout" and "wall" in verdict.detail
        ):
            return verdict
    raise InfraError(f"the sandbox failed {_ATTEMPTS} times in a row: {verdict.status}: {verdict.detail}")
