"""Best of n: what each choice solves, what the critic is shown, and that equal batches give equal values."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.test_numbers import sample
from tests.tiny import save_tiny_model
from wmtp_ray.config.model import ValueModelConfig
from wmtp_ray.data.prompt import render_prompt, tokenize_sample
from wmtp_ray.data.records import Tests
from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.benchmarks import Task
from wmtp_ray.evaluation.outcome import read_reranked, write_reranked
from wmtp_ray.evaluation.rerank import Answer, answer_of, batches_of, mean_value, rerank, tokenize_answers
from wmtp_ray.models import load_tokenizer
from wmtp_ray.models.scorer import score
from wmtp_ray.models.value_model import ValueModel

TESTS = Tests("assert", code="assert f(1) == 2")


def drawn() -> list:
    """Problem p: one of four passes, two fail alike. Problem q: three of four pass."""
    statuses = {"p": ["error", "passed", "wrong_answer", "wrong_answer"], "q": ["passed"] * 3 + ["timeout"]}
    return [sample("m", p, i, status) for p, row in statuses.items() for i, status in enumerate(row)]


def test_each_choice_solves_what_it_picks() -> None:
    samples = drawn()
    values = {s.key: float(s.status == "passed") for s in samples}
    [row] = rerank(samples, values)
    means = {choice: e.mean for choice, e in row.solved.items()}
    assert means == {"random": (1 / 4 + 3 / 4) / 2, "majority": 0.5, "critic": 1.0, "any": 1.0}
    assert row.critic_minus_random.mean == 0.5 and row.critic_minus_majority.mean == 0.5
    [worst] = rerank(samples, {key: -value for key, value in values.items()})
    assert worst.solved["critic"].mean == 0 and row.unscored == 0


def test_equal_values_are_a_random_choice_among_them() -> None:
    samples = drawn()
    [row] = rerank(samples, dict.fromkeys((s.key for s in samples), 0.3))
    assert row.solved["critic"] == row.solved["random"] and row.critic_minus_random.mean == 0


def test_samples_without_a_value_are_chosen_last() -> None:
    samples = drawn()
    [row] = rerank(samples, {s.key: 0.0 for s in samples if s.status != "passed"})
    assert row.solved["critic"].mean == 0 and row.unscored == 4


def test_faults_of_the_sandbox_are_no_choice() -> None:
    samples = [*drawn(), sample("m", "p", 4, "sandbox_fault")]
    [row] = rerank(samples, {s.key: float(s.status == "sandbox_fault") for s in samples})
    assert row.solved["random"].mean == 0.5
    with pytest.raises(DataError, match="m has 0 verdicts on problem r of b"):
        rerank([*samples, sample("m", "r", 0, "sandbox_fault")], {})


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = rerank([*drawn(), *(replace(s, temperature=0.8) for s in drawn())], {})
    assert [row.temperature for row in rows] == [0.2, 0.8] and read_reranked(tmp_path) == []
    write_reranked(rows, tmp_path)
    assert read_reranked(tmp_path) == rows
    lines = list(csv.DictReader((tmp_path / "reranked.csv").open()))
    assert len(lines) == 2 * 6 and lines[0]["choice"] == "random" and float(lines[0]["value"]) == 0.5


def test_the_critic_reads_what_it_was_trained_on(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_tiny_model(tmp_path / "base"))
    task = Task("p", render_prompt("Add one.", "1"), TESTS, "respond")
    answer = answer_of(task, "def f(x):\n    return x + 1\n")
    [read] = tokenize_answers(tokenizer, [answer], 512)
    trained = tokenize_sample(
        tokenizer, sample_id=0, instruction="Add one.", input="1", output=answer.response, max_length=512
    )
    assert np.array_equal(read.token_ids, trained.token_ids)
    assert read.response_start == trained.response_start
    completed = Task("h", "def f(x):", TESTS, "complete")
    cut = answer_of(completed, "\n    return x + 1\n\nprint(f(1))\n")
    assert cut == Answer("def f(x):", "\n    return x + 1\n\n")
    assert tokenize_answers(tokenizer, [Answer("x", ""), Answer("x " * 600, "y")], 512) == []


def test_values_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base")
    tokenizer = load_tokenizer(base)
    model = ValueModel.from_pretrained(ValueModelConfig(name=str(base), train="head", head="linear"), seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.head.parameters():
        parameter.data.normal_(0, 1, generator=generator)
    answers = [Answer(f"def f{n}(x):", "\n    return x" + " + 1" * n) for n in range(9)]
    samples = tokenize_answers(tokenizer, answers, 512)

    def values(tokens: int) -> dict[int, float]:
        found = {}
        for batch in batches_of(samples, tokens, tokenizer.pad_token_id or 0):
            assert batch.input_ids.numel() <= max(tokens, max(len(s.token_ids) for s in samples))
            scores = score(model, batch, torch.device("cpu"))
            found |= {n: mean_value(v) for n, v in zip(batch.sample_ids.tolist(), scores, strict=True)}
        return found

    alone, together = values(1), values(4096)
    assert alone.keys() == together.keys() == set(range(9))
    assert all(alone[n] == pytest.approx(together[n], abs=1e-5) for n in alone)
    assert len(set(alone.values())) == 9
