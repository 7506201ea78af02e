"""Best of n: does choosing one of a problem's samples by the critic beat choosing at random?

Existing samples are ranked by v̄, the mean of the critic's values over the response tokens (SPEC's pairwise objective
trains exactly this number). Beside it stand what needs no critic, and what no choice can beat:

- `random`: the mean over a problem's samples, which is pass@1;
- `majority`: samples that did the same on the tests (status, cases passed, first failure) form a group, and the
  largest group is chosen; of equally large ones, their mean;
- `critic`: the sample of the highest v̄; of equally high ones (equal programs), their mean;
- `any`: whether one of the n passes, which is pass@n.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmtp_ray.data.batch import PackedBatch, pack
from wmtp_ray.data.prompt import TokenizedSample, encode_text, eos_id, join_sample, with_bos
from wmtp_ray.evaluation.benchmarks import Task
from wmtp_ray.evaluation.samples import JudgedSample, SampleKey, judged
from wmtp_ray.evaluation.statistics import Estimate, mean_share, paired_difference

CHOICES = ("random", "majority", "critic", "any")


@dataclass(frozen=True)
class Reranked:
    """One row of the table once more: share of problems solved by each way to choose one of n samples."""

    model: str
    temperature: float
    benchmark: str
    samples_per_problem: int
    solved: dict[str, Estimate]
    critic_minus_random: Estimate
    critic_minus_majority: Estimate
    unscored: int
    """Samples that the critic cannot rate: empty ones, and those whose prompt fills its length. Chosen last."""


@dataclass(frozen=True)
class Answer:
    """A prompt and an answer to it, as a critic reads them."""

    prompt: str
    response: str


def answer_of(task: Task, text: str) -> Answer:
    """What a sample's program adds to its prompt. What was cut off from it is no part of the answer."""
    program = task.program(text)
    response = program[len(task.prompt) :] if task.answer == "complete" else program
    return Answer(task.prompt, response)


def tokenize_answers(tokenizer: Any, answers: Sequence[Answer], max_length: int) -> list[TokenizedSample]:
    """Answers joined to their prompts as in training, numbered by their place in `answers`. Those without a response or
    without room for one are left out. The prompts are those that were sampled from: HumanEval's are bare code, which a
    critic that was trained under the template has not seen."""
    prompts = encode_text(tokenizer, [answer.prompt for answer in answers])
    responses = encode_text(tokenizer, [answer.response for answer in answers])
    samples = []
    for number, (prompt_ids, response_ids) in enumerate(zip(prompts, responses, strict=True)):
        prompt_ids = with_bos(tokenizer, prompt_ids)
        if response_ids and len(prompt_ids) < max_length:
            samples.append(
                join_sample(
                    sample_id=number,
                    prompt_ids=prompt_ids,
                    response_ids=response_ids,
                    eos=eos_id(tokenizer),
                    max_length=max_length,
                )
            )
    return samples


def batches_of(samples: Sequence[TokenizedSample], tokens: int, pad_id: int) -> list[PackedBatch]:
    """Samples of like length together, at most `tokens` with the padding, one row each."""
    batches: list[list[TokenizedSample]] = []
    for sample in sorted(samples, key=lambda s: (len(s.token_ids), s.sample_id)):
        if not batches or (len(batches[-1]) + 1) * len(sample.token_ids) > tokens:
            batches.append([])
        batches[-1].append(sample)
    return [pack([[sample] for sample in batch], pad_id) for batch in batches]


def mean_value(scores: np.ndarray) -> float:
    """v̄ of one sample's scores: the first is the value at the last prompt token, and no part of the mean."""
    return float(scores[1:].mean(dtype=np.float64))


def rerank(
    samples: Iterable[JudgedSample], values: Mapping[SampleKey, float], seed: int = 0
) -> list[Reranked]:
    """One row per (benchmark, temperature, model), in the order of `samples`. `values` are v̄ by sample; a sample
    without one is chosen only where no other has one. Faults of the sandbox are left out: they say nothing.

    Raises `DataError` for a problem all of whose samples are such faults.
    """
    rows: dict[tuple[str, float, str], dict[str, list[JudgedSample]]] = defaultdict(lambda: defaultdict(list))
    for s in samples:
        rows[s.benchmark, s.temperature, s.model][s.problem_id].append(s)
    return [_row(*place, problems, values, seed) for place, problems in rows.items()]


def _row(
    benchmark: str,
    temperature: float,
    model: str,
    problems: dict[str, list[JudgedSample]],
    values: Mapping[SampleKey, float],
    seed: int,
) -> Reranked:
    solved: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    for drawn in problems.values():
        verdicts = judged(drawn, 1)
        passed = np.array([s.status == "passed" for s in verdicts], dtype=np.float64)
        kinds = [(s.status, s.cases_passed, s.detail) for s in verdicts]
        sizes = np.array([Counter(kinds)[kind] for kind in kinds])
        rated = np.array([values.get(s.key, -math.inf) for s in verdicts])
        solved["random"].append(passed.mean())
        solved["majority"].append(passed[sizes == sizes.max()].mean())
        solved["critic"].append(passed[rated == rated.max()].mean())
        solved["any"].append(passed.max())
    shares = {choice: np.array(each) for choice, each in solved.items()}
    everything = [s for drawn in problems.values() for s in drawn]
    return Reranked(
        model=model,
        temperature=temperature,
        benchmark=benchmark,
        samples_per_problem=max(map(len, problems.values())),
        solved={choice: mean_share(each, seed=seed) for choice, each in shares.items()},
        critic_minus_random=paired_difference(shares["critic"], shares["random"], seed=seed),
        critic_minus_majority=paired_difference(shares["critic"], shares["majority"], seed=seed),
        unscored=sum(s.key not in values for s in everything),
    )
