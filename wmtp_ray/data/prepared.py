"""One problem made ready for a store: unusable, duplicate and contaminated solutions taken out, tokens counted.

A pure function of one problem, so that Ray Data may run it anywhere.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from wmtp_ray.data.decontamination import EvaluationTexts
from wmtp_ray.data.near_duplicates import SHINGLE_WORDS, clusters, signatures
from wmtp_ray.data.prompt import encode_text, eos_id, render_prompt, with_bos
from wmtp_ray.data.records import Problem, Reject, Solution
from wmtp_ray.data.shingles import Shingles, shingles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONG_PROGRAM = 40
"""5-grams of words from which on a correct program that two problems share says that they are one."""
LONG_STATEMENT = 20
"""5-grams of words from which on statements are compared: shorter ones (`Solve task abc123_a.`) are often made from a
form."""


@dataclass(frozen=True)
class Rules:
    """What is kept of a problem."""

    max_length: int
    """Longest sample, in tokens with template, BOS and EOS."""
    languages: tuple[str, ...] = ("python3",)
    max_bytes: int = 1_000_000
    too_long: Literal["cut", "reject"] = "cut"
    parse_check: bool = False
    near_duplicate: float = 0.8
    """Jaccard similarity from which on two programs, or two statements, are near-duplicates."""
    evaluation: EvaluationTexts | None = None
    """What no program and no statement outside of `valid` and `test` may contain."""


@dataclass(frozen=True)
class Kinship:
    """What one problem is compared with others by: 256 bytes, and 8 for each long correct program."""

    problem_id: str
    split: str | None
    stored: bool
    """Whether anything of it goes to the store."""
    statement: np.ndarray
    """[64] uint32, signature; all ones where it is short"""
    programs: np.ndarray
    """uint64, a hash of the words of each long correct program"""


@dataclass(frozen=True)
class PreparedProblem:
    """A problem whose `solutions` are those kept, with their lengths after truncation to `max_length`.

    `tokens[i]` counts everything (BOS, template, response, EOS), `targets[i]` the response tokens and EOS
    among them. `rows_in` = number of solutions kept + rows of `rejects`.
    """

    problem: Problem
    tokens: np.ndarray
    """[n] int32"""
    targets: np.ndarray
    """[n] int32"""
    truncated: int
    rejects: tuple[Reject, ...]
    rows_in: int
    clusters: np.ndarray
    """[n] int32, for each solution the first one of its near-duplicates"""
    kinship: Kinship


def prepare_problem(problem: Problem, tokenizer: PreTrainedTokenizerBase, rules: Rules) -> PreparedProblem:
    """Keep the solutions that can be trained on and count their tokens; every other one becomes a `Reject`.

    Reasons, the first that holds. Of the statement: `bad_text` (a NUL, or no valid Unicode), `contaminated` (it holds a
    text of an evaluation set). Of the program: `bad_text`, `empty_output`, `too_large` (more than `max_bytes`),
    `language`, `labelled_both_ways` (all copies go), `duplicate` (the same program came before), `does_not_parse`,
    `contaminated`, `prompt_too_long` (nothing of the response fits into `max_length`), `too_long`.
    """
    name = _printable(problem.problem_id)
    rejects: dict[int, Reject] = {}

    def reject(number: int, reason: str, detail: str = "") -> None:
        rejects[number] = Reject(f"{name}#{number}", reason, detail)

    numbered = list(enumerate(problem.solutions))
    fault = _statement_fault(problem, rules.evaluation)
    if fault:
        for number, _ in numbered:
            reject(number, *fault)
        if not numbered:
            rejects[0] = Reject(name, *fault, rows=0)
        # Without solutions and tests a problem is not stored at all.
        return _prepared(replace(problem, tests=None), [], 0, np.zeros(0, np.int32), rejects, rules)

    labels = _labels_by_program(problem.solutions)
    seen: set[tuple[str, str]] = set()
    for number, solution in numbered:
        key = (solution.language, solution.code)
        if text_fault := _text_fault(solution.code):
            reject(number, "bad_text", f"the program has {text_fault}")
        elif not solution.code.strip():
            reject(number, "empty_output")
        elif (size := len(solution.code.encode())) > rules.max_bytes:
            reject(number, "too_large", f"{size} bytes, at most {rules.max_bytes} are accepted")
        elif solution.language not in rules.languages:
            reject(number, "language", solution.language)
        elif len(labels[key]) == 2:
            reject(number, "labelled_both_ways")
        elif key in seen:
            reject(number, "duplicate")
        elif rules.parse_check and (why := _syntax_fault(solution)):
            reject(number, "does_not_parse", why)
        seen.add(key)

    def kept() -> list[tuple[int, Solution]]:
        return [(number, solution) for number, solution in numbered if number not in rejects]

    if rules.evaluation and _is_for_training(problem):
        candidates = kept()
        contained = rules.evaluation.found_in([solution.code for _, solution in candidates])
        for (number, _), which in zip(candidates, contained, strict=True):
            if which:
                reject(number, "contaminated", which)

    solutions = kept()
    prompt_length, tokens = _count_tokens(problem, [solution for _, solution in solutions], tokenizer)
    for (number, _), length in zip(solutions, tokens.tolist(), strict=True):
        if prompt_length >= rules.max_length:
            reject(number, "prompt_too_long", f"{prompt_length} tokens, max_length is {rules.max_length}")
        elif length > rules.max_length and rules.too_long == "reject":
            reject(number, "too_long", f"{length} tokens, max_length is {rules.max_length}")
    left = np.array([number not in rejects for number, _ in solutions], dtype=bool)
    return _prepared(problem, [s for _, s in kept()], prompt_length, tokens[left], rejects, rules)


def _prepared(
    problem: Problem,
    solutions: list[Solution],
    prompt_length: int,
    tokens: np.ndarray,
    rejects: dict[int, Reject],
    rules: Rules,
) -> PreparedProblem:
    grams = shingles([solution.code for solution in solutions], SHINGLE_WORDS)
    cut = np.minimum(tokens, rules.max_length)
    return PreparedProblem(
        problem=replace(problem, solutions=tuple(solutions)),
        tokens=cut,
        targets=cut - np.int32(prompt_length),
        truncated=int((tokens > rules.max_length).sum()),
        rejects=tuple(rejects[number] for number in sorted(rejects)),
        rows_in=len(solutions) + sum(reject.rows for reject in rejects.values()),
        clusters=clusters(signatures(grams), rules.near_duplicate).astype(np.int32),
        kinship=_kinship(problem, solutions, grams),
    )


def _kinship(problem: Problem, solutions: list[Solution], grams: Shingles) -> Kinship:
    statement = shingles([problem.instruction], SHINGLE_WORDS)
    if statement.counts[0] < LONG_STATEMENT:
        statement = shingles([""], SHINGLE_WORDS)
    correct = np.array([solution.is_correct for solution in solutions], dtype=bool)
    long = np.flatnonzero(correct & (grams.counts >= LONG_PROGRAM))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(grams.hashes)])
    return Kinship(
        problem_id=problem.problem_id,
        split=problem.split,
        stored=bool(solutions) or problem.tests is not None,
        statement=signatures(statement)[0],
        programs=np.unique(sums[grams.offsets[long + 1]] - sums[grams.offsets[long]]),
    )


def _statement_fault(problem: Problem, evaluation: EvaluationTexts | None) -> tuple[str, str] | None:
    """Why nothing of the problem can be used: reason and detail."""
    for text in (problem.problem_id, problem.instruction, problem.input):
        if fault := _text_fault(text):
            return "bad_text", f"the statement has {fault}"
    if evaluation and _is_for_training(problem):
        [contained] = evaluation.found_in([f"{problem.instruction}\n{problem.input}"])
        if contained:
            return "contaminated", contained
    return None


def _is_for_training(problem: Problem) -> bool:
    return problem.split in (None, "train")


def _labels_by_program(solutions: tuple[Solution, ...]) -> dict[tuple[str, str], set[bool]]:
    labels: dict[tuple[str, str], set[bool]] = {}
    for solution in solutions:
        labels.setdefault((solution.language, solution.code), set()).add(solution.is_correct)
    return labels


def _count_tokens(
    problem: Problem, solutions: list[Solution], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, np.ndarray]:
    """Tokens of the prompt (BOS included), and of each whole sample before truncation, [n] int32."""
    if not solutions:
        return 0, np.zeros(0, dtype=np.int32)
    eos_id(tokenizer)  # refuses a tokenizer without EOS
    texts = [render_prompt(problem.instruction, problem.input), *(s.code for s in solutions)]
    prompt_ids, *responses = encode_text(tokenizer, texts)
    prompt_length = len(with_bos(tokenizer, prompt_ids))
    return prompt_length, np.array([prompt_length + len(ids) + 1 for ids in responses], dtype=np.int32)


def _syntax_fault(solution: Solution) -> str | None:
    """Why this Python does not parse it; None for other languages."""
    if solution.language != "python3":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(solution.code, "<program>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:  # numbers and nesting beyond the parser's limits
        return str(error) or type(error).__name__
    return None


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
