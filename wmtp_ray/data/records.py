"""What a source yields: problems, their labelled solutions, and the tests that decide a label."""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from wmtp_ray.errors import DataError

TestKind = Literal["call", "assert", "stdio"]


@dataclass(frozen=True)
class Case:
    """One test case.

    kind `call`: `input` is a Python call expression (`"f(1, 2)"`), `expected` a Python literal (`"3"`).
    kind `stdio`: `input` goes to standard input, `expected` is the expected standard output.
    """

    input: str
    expected: str


@dataclass(frozen=True)
class Tests:
    """The tests of one problem. `code`: test code of kind `assert`, run as a script (MBPP's asserts); its function
    `check`, if it has one, is called with the program's `entry_point`, if one is named (HumanEval).
    `tolerance`: by how much numbers printed may differ, relatively or absolutely (kind `stdio`; 0 = not at all)."""

    __test__ = False  # not a pytest class

    kind: TestKind
    cases: tuple[Case, ...] = ()
    setup: str = ""
    entry_point: str = ""
    code: str = ""
    tolerance: float = 0.0

    def to_json(self) -> str:
        """A JSON text that `from_json` turns back into an equal object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Tests:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        fields["cases"] = tuple(Case(**case) for case in fields["cases"])
        return cls(**fields)

    @property
    def has_check(self) -> bool:
        """Whether `code` has a function `check` that is called with the entry point."""
        defined = (node.name for node in _parsed(self.code).body if isinstance(node, ast.FunctionDef))
        return bool(self.entry_point) and "check" in defined

    def require_usable(self) -> None:
        """`DataError` for tests that would judge all programs alike: no cases, code that checks nothing when it is run,
        text that is no Python."""
        if self.kind != "assert" and not self.cases:
            raise DataError(f"tests of kind {self.kind} have no cases")
        _parsed(self.setup)
        if self.kind == "call":
            for case in self.cases:
                _parsed(case.input, "eval")
                expected_value(case.expected)
        elif self.kind == "assert" and not (self.has_check or any(map(_checks, _run(_parsed(self.code))))):
            raise DataError(
                "tests of kind assert check nothing when they are run; write asserts or calls at the top level, or a "
                "function check and the entry_point that it is called with"
            )


def _parsed(text: str, mode: Literal["exec", "eval"] = "exec") -> Any:
    """The module or expression; `DataError` for text that is no Python."""
    try:
        return ast.parse(text, mode=mode)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"test code {text[:80]!r} does not parse: {error}") from None


def _run(module: ast.Module) -> Iterator[ast.AST]:
    """All that is run with the module: no functions, which must be called."""
    left: list[ast.AST] = [module]
    while left:
        node = left.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            left.extend(ast.iter_child_nodes(node))


def _checks(node: ast.AST) -> bool:
    """Whether it can tell one program from another: asserts, raises, or calls a function of the tests or the program
    (`f(1)`, not `random.seed(0)` or `print(1)`)."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and not hasattr(builtins, node.func.id)
    return isinstance(node, ast.Assert | ast.Raise)


def expected_value(text: str) -> Any:
    """The value of a case of kind `call`; `DataError` for text that is no Python literal."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if text.strip() in ("set()", "frozenset()"):
            return set() if text.strip() == "set()" else frozenset()
        if text.strip() in ("inf", "-inf", "nan"):
            return float(text)
        raise DataError(f"expected value {text[:200]!r} is not a Python literal") from None


@dataclass(frozen=True)
class Solution:
    """One program for a problem. `mutated_span`: half-open span of characters of `code`, where known."""

    code: str
    is_correct: bool
    language: str = "python3"
    provenance: str = ""
    mutated_span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Problem:
    """One problem with its labelled solutions. `difficulty` and `cf_rating` (of Codeforces): 0 = unknown.

    `split`: the one its source names, or None, which leaves the choice to the shares that are held out.
    """

    problem_id: str
    instruction: str
    solutions: tuple[Solution, ...]
    input: str = ""
    split: str | None = None
    difficulty: int = 0
    cf_rating: int = 0
    tags: tuple[str, ...] = ()
    tests: Tests | None = None


@dataclass(frozen=True)
class Reject:
    """One row, `rows` of them alike, or a problem of tests alone (`rows` 0), that cannot be used. `reason`: a short
    fixed word, counted by rows; `detail`: more."""

    place: str
    """Where the row stands: file and line, or problem and number of the solution."""
    reason: str
    detail: str = ""
    rows: int = 1

    def require_of_a_solution(self, source: str) -> None:
        """`DataError` unless only a solution was rejected, whose place ends with its number in brackets, or those of a
        language: where problems are wanted, one that cannot be read would be missing."""
        if self.reason != "language" and not self.place.endswith("]"):
            raise DataError(
                f"{source}: {self.place} is no problem ({self.reason}: {self.detail}); mend the source"
            )

    def to_json(self) -> str:
        """One line of `rejects.jsonl`."""
        return json.dumps(asdict(self), ensure_ascii=True)


class Source(Protocol):
    """Where problems come from. Small and picklable: Ray Data sends it to its read tasks.

    A problem comes whole, once: all its solutions together, never again under the same id.
    """

    def partitions(self) -> list[Any]:
        """Descriptors of independent parts (a file, a row group, a problem id), in a fixed order."""
        ...

    def problems(self, partition: Any) -> Iterator[Problem | Reject]:
        """The problems of one part, in a fixed order, and the rows from which no solution could be made."""
        ...
