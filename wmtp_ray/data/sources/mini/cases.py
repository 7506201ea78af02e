"""The tests of a mini problem: the written cases, and more that its generator and its first reference give."""

from __future__ import annotations

import ast
import copy
import random
from typing import Any

from wmtp_ray.data.records import Case, Tests
from wmtp_ray.data.sources.mini.kinds import NEVER, Kind, Signature, join, kind_of_value
from wmtp_ray.data.sources.mini.spec import MiniProblem
from wmtp_ray.errors import DataError

GENERATED_CASES = 12
SURVIVOR_CASES = 60
_LONGEST_CASE = 400
_DRAWS_PER_CASE = 20


def make_tests(problem: MiniProblem) -> tuple[Tests, Tests, Signature]:
    """(tests, further cases for mutants that pass them, what the values say about the entry function).

    The first reference computes the expected values of generated inputs; that the other references agree is found out
    when they are run against these tests like every other program. References are source code of this project, as
    their module is, and run in this process; what is derived from them runs in the sandbox only.
    """
    name = problem.name
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(problem.references[0], f"<mini problem {name}>", "exec"), namespace)
    function = namespace[name]
    written = [Case(f"{name}({arguments})", expected) for arguments, expected in problem.cases]
    inputs = [
        ast.literal_eval(f"({arguments},)") if arguments.strip() else () for arguments, _ in problem.cases
    ]
    results = [ast.literal_eval(expected) for _, expected in problem.cases]
    generated: list[Case] = []
    seen = {case.input for case in written}
    rng = random.Random(f"mini/{name}/inputs")
    wanted = GENERATED_CASES + SURVIVOR_CASES
    for _ in range(wanted * _DRAWS_PER_CASE):
        if len(generated) == wanted:
            break
        arguments = problem.generate(rng)
        call = f"{name}({', '.join(map(literal, arguments))})"
        if call in seen or len(call) > _LONGEST_CASE:
            continue
        seen.add(call)
        try:
            result = function(*copy.deepcopy(arguments))
            generated.append(Case(call, literal(result)))
        except Exception as error:  # whatever it is, it is a fault of the problem's own files
            raise DataError(
                f"mini problem {name!r}: reference 0 fails on the input {call}: {error!r}"
            ) from error
        inputs.append(arguments)
        results.append(result)
    tests = Tests("call", (*written, *generated[:GENERATED_CASES]), entry_point=name)
    further = Tests("call", tuple(generated[GENERATED_CASES:]), entry_point=name)
    return tests, further, _signature(name, inputs, results)


def literal(value: Any) -> str:
    """The value as a Python literal that does not depend on the hash seed (`repr` orders sets by hash)."""
    if isinstance(value, set):
        return "{" + ", ".join(sorted(map(literal, value))) + "}" if value else "set()"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + (",)" if len(value) == 1 else ")")
    return repr(value)


def _signature(name: str, inputs: list[tuple], results: list[Any]) -> Signature:
    parameters: list[Kind] = [NEVER] * max(map(len, inputs))
    returns = NEVER
    for arguments, result in zip(inputs, results, strict=True):
        for position, argument in enumerate(arguments):
            parameters[position] = join(parameters[position], kind_of_value(argument))
        returns = join(returns, kind_of_value(result))
    return Signature(name, tuple(parameters), returns)
