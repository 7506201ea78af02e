"""Diagnostics of a critic whose values are made up, on a real store and tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.tiny import smollm2_directory
from wmtp_ray.data.prompt import encode_text, eos_id
from wmtp_ray.data.records import Problem, Solution
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store
from wmtp_ray.evaluation.critic_diagnostics import CriticDiagnostics, diagnose
from wmtp_ray.evaluation.statistics import share_interval
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.training.held_out import FILE, HeldOutPair, as_lines, read_held_out_pairs
from wmtp_ray.value_weighting.token_classes import mutated_tokens

SPAN = (len("def f(x):\n    return x "), len("def f(x):\n    return x ") + 1)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(smollm2_directory())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tokenizer) -> SolutionStore:
    """24 problems of difficulty 1 to 3; row 2i is right, row 2i + 1 has another operator."""
    problems = [
        Problem(
            f"p/{i}",
            f"Add {i}.",
            (
                Solution(f"def f(x):\n    return x + {i}\n", True),
                Solution(f"def f(x):\n    return x - {i}\n", False, mutated_span=SPAN),
            ),
            split="valid",
            difficulty=i % 3 + 1,
        )
        for i in range(24)
    ]
    path = tmp_path_factory.mktemp("store") / "s"
    fingerprint = tokenizer_fingerprint(tokenizer)
    write_store(path, problems, tokenizer, 128, source="a test", tokenizer_fingerprint=fingerprint)
    return SolutionStore.open(path)


def pairs_of(store: SolutionStore, tokenizer, falls_at_fault: bool) -> list[HeldOutPair]:
    """Values fall by 1 after the mutated token (or after the first one); margins are log-odds of true chances."""
    generator = np.random.default_rng(3)
    found = []
    for right, wrong in zip(store.read(range(0, 48, 2)), store.read(range(1, 48, 2)), strict=True):
        ids = [*encode_text(tokenizer, [wrong.output])[0], eos_id(tokenizer)]
        assert wrong.mutated_span is not None
        fault = int(np.argmax(mutated_tokens(tokenizer, ids, wrong.mutated_span, eos_id(tokenizer))))
        values = np.where(np.arange(len(ids)) >= (fault if falls_at_fault else 1), -1.0, 0.0)
        values += generator.normal(0, 1e-3, len(ids))
        margin = float(generator.normal(1, 0.5))
        found.append(
            HeldOutPair(
                (right.row, wrong.row),
                (len(ids) + right.row, len(ids)),
                (margin, 0.0),
                tuple(values.tolist()),
            )
        )
    return found


def test_groups_hold_every_pair_and_the_mutation_is_found(store: SolutionStore, tokenizer) -> None:
    pairs = pairs_of(store, tokenizer, falls_at_fault=True)
    pairs[0] = replace(pairs[0], means=(0.5, 0.5))
    found = diagnose(7, pairs, store, tokenizer)
    assert found.whole.pairs == 24 and found.ties == 1
    assert sum(share.pairs for share in found.by_length) == 24
    assert [(share.name, share.pairs) for share in found.by_difficulty] == [
        (f"difficulty {level}", 8) for level in (1, 2, 3)
    ]
    assert sum(c.observed.pairs for c in found.calibration) == 23, "a tie prefers no side"
    assert all(0.5 <= c.predicted < 1 for c in found.calibration)
    assert found.located is not None and found.located.auroc > 0.99 and found.located.programs == 24
    elsewhere = diagnose(7, pairs_of(store, tokenizer, falls_at_fault=False), store, tokenizer)
    assert elsewhere.located is not None and elsewhere.located.auroc < 0.7
    assert CriticDiagnostics.from_json(found.to_json()) == found


def test_only_a_ranking_critic_is_calibrated(store: SolutionStore, tokenizer) -> None:
    pairs = pairs_of(store, tokenizer, falls_at_fault=True)
    assert diagnose(1, pairs, store, tokenizer, ranking=False).calibration == ()


def test_pairs_are_read_as_they_were_written(store: SolutionStore, tokenizer, tmp_path: Path) -> None:
    assert read_held_out_pairs(tmp_path) == (0, [])
    pairs = pairs_of(store, tokenizer, falls_at_fault=True)
    (tmp_path / FILE).write_text(as_lines(9, pairs))
    assert read_held_out_pairs(tmp_path) == (9, pairs)


@pytest.mark.parametrize(("hits", "of"), [(0, 1), (8, 10), (10, 10), (37, 91)])
def test_the_interval_of_a_share_is_wilsons(hits: int, of: int) -> None:
    wanted = binomtest(hits, of).proportion_ci(method="wilson")
    found = share_interval(hits, of)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
