"""How a problem of the mini data set is written down."""

from __future__ import annotations

import ast
import random
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from wmtp_ray.errors import DataError

MIN_REFERENCES = 2
MIN_CASES = 6


@dataclass(frozen=True)
class MiniProblem:
    """One problem: what to write, correct programs for it, tests, and a generator of further inputs.

    Attributes:
        name: function name, and the id of the problem inside its family.
        statement: one or two sentences that name the function and its arguments.
        references: two or more genuinely different correct programs, each the text of a module that defines `name`.
        cases: at least six (arguments as Python source, expected value as a Python literal),
            e.g. `("1, [2, 3]", "6")` for `name(1, [2, 3]) == 6`.
        generate: draws one tuple of random valid arguments; they must survive `repr` and back.
        difficulty: 1 (a loop) to 5 (an algorithm).
    """

    name: str
    statement: str
    references: tuple[str, ...]
    cases: tuple[tuple[str, str], ...]
    generate: Callable[[random.Random], tuple]
    difficulty: int = 1


def problem(
    name: str,
    statement: str,
    references: list[str] | tuple[str, ...],
    cases: list[tuple[str, str]] | tuple[tuple[str, str], ...],
    generate: Callable[[random.Random], tuple],
    difficulty: int = 1,
) -> MiniProblem:
    """A `MiniProblem` of dedented texts.

    Only the form is checked here; whether references and tests agree is found out by running them.

    Raises:
        DataError: a text does not parse, something is missing, or a number is out of range; names the problem.
    """
    programs = tuple(textwrap.dedent(text).strip() + "\n" for text in references)
    text = " ".join(statement.split())
    if not name.isidentifier():
        raise DataError(f"mini problem {name!r}: the name is not a Python identifier")
    if name not in text:
        raise DataError(f"mini problem {name!r}: the statement does not name the function: {text!r}")
    if len(set(programs)) != len(programs) or len(programs) < MIN_REFERENCES:
        raise DataError(f"mini problem {name!r}: {MIN_REFERENCES} or more different references are needed")
    if len(set(cases)) != len(cases) or len(cases) < MIN_CASES:
        raise DataError(
            f"mini problem {name!r}: {MIN_CASES} or more different cases are needed, got {len(cases)}"
        )
    if not 1 <= difficulty <= 5:
        raise DataError(f"mini problem {name!r}: difficulty {difficulty} is outside 1..5")
    for number, program in enumerate(programs):
        _check_program(name, number, program)
    for arguments, expected in cases:
        _check_case(name, arguments, expected)
    return MiniProblem(
        name,
        text,
        programs,
        tuple((arguments, expected) for arguments, expected in cases),
        generate,
        difficulty,
    )


def _check_program(name: str, number: int, program: str) -> None:
    try:
        tree = ast.parse(program)
    except SyntaxError as error:
        raise DataError(f"mini problem {name!r}: reference {number} does not parse: {error}") from error
    if not any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body):
        raise DataError(f"mini problem {name!r}: reference {number} does not define {name}()")


def _check_case(name: str, arguments: str, expected: str) -> None:
    try:
        ast.parse(f"{name}({arguments})", mode="eval")
        ast.literal_eval(expected)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"mini problem {name!r}: case ({arguments!r}, {expected!r}): {error}") from error
