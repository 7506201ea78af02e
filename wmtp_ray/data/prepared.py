"""One problem made ready for a store: unusable and duplicate solutions taken out, token lengths counted.

A pure function of one problem, so that Ray Data may run it anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from wmtp_ray.data.prompt import encode_text, eos_id, render_prompt, with_bos
from wmtp_ray.data.records import Problem, Reject, Solution

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PreparedProblem:
    """A problem whose `solutions` are those kept, with their lengths after truncation to `max_length`.

    `tokens[i]` counts everything (BOS, template, response, EOS), `targets[i]` the response tokens and EOS
    among them. `rows_in` = number of solutions kept + number of `rejects`.
    """

    problem: Problem
    tokens: np.ndarray
    """[n] int32"""
    targets: np.ndarray
    """[n] int32"""
    truncated: int
    rejects: tuple[Reject, ...]
    rows_in: int


def prepare_problem(
    problem: Problem,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    languages: tuple[str, ...] = ("python3",),
    max_bytes: int = 1_000_000,
) -> PreparedProblem:
    """Keep the solutions that can be trained on and count their tokens; every other one becomes a `Reject`.

    Reasons: `bad_text` (a NUL, or no valid Unicode), `empty_output`, `too_large` (more than `max_bytes`),
    `language`, `duplicate` (the same program with the same label came before), `labelled_both_ways` (all
    copies go), and `prompt_too_long` (nothing of the response fits into `max_length`).
    """
    rejects: list[Reject] = []
    kept: list[tuple[int, Solution]] = []

    def reject(number: int, reason: str, detail: str = "") -> None:
        rejects.append(Reject(f"{_printable(problem.problem_id)}#{number}", reason, detail))

    in_statement = next(
        (
            why
            for text in (problem.problem_id, problem.instruction, problem.input)
            if (why := _text_fault(text))
        ),
        None,
    )
    labels = _labels_by_program(problem.solutions)
    seen: set[tuple[str, str]] = set()
    for number, solution in enumerate(problem.solutions):
        key = (solution.language, solution.code)
        if in_statement:
            reject(number, "bad_text", f"the statement has {in_statement}")
        elif fault := _text_fault(solution.code):
            reject(number, "bad_text", f"the program has {fault}")
        elif not solution.code.strip():
            reject(number, "empty_output")
        elif (size := len(solution.code.encode())) > max_bytes:
            reject(number, "too_large", f"{size} bytes, at most {max_bytes} are accepted")
        elif solution.language not in languages:
            reject(number, "language", solution.language)
        elif len(labels[key]) == 2:
            reject(number, "labelled_both_ways")
        elif key in seen:
            reject(number, "duplicate")
        else:
            seen.add(key)
            kept.append((number, solution))

    prompt_length, tokens = _count_tokens(problem, [solution for _, solution in kept], tokenizer)
    if kept and prompt_length >= max_length:
        for number, _ in kept:
            reject(number, "prompt_too_long", f"{prompt_length} tokens, max_length is {max_length}")
        kept, tokens = [], tokens[:0]
    cut = np.minimum(tokens, max_length)
    rejects.sort(key=lambda r: int(r.place.rpartition("#")[2]))
    return PreparedProblem(
        problem=replace(problem, solutions=tuple(solution for _, solution in kept)),
        tokens=cut,
        targets=cut - np.int32(prompt_length),
        truncated=int((tokens > max_length).sum()),
        rejects=tuple(rejects),
        rows_in=len(problem.solutions),
    )


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
