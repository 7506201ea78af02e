"""The audit's numbers against definitions and against weights made to have a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from wmtp_ray.errors import DataError
from wmtp_ray.value_weighting.audit import (
    AuditedTokens,
    Setting,
    audit_grid,
    audit_setting,
    auroc,
    explained_share,
    grid,
    localisation,
    verdict,
)

SETTING = Setting(0.95, 1.0, 0.1, 3.0)
PROGRAMS, LENGTH = 80, 30


def tokens_of(mutated: bool = True) -> AuditedTokens:
    random = np.random.default_rng(0)
    place = np.tile(np.linspace(0, 1, LENGTH), PROGRAMS)
    hit = np.zeros((PROGRAMS, LENGTH), dtype=bool)
    if mutated:
        hit[np.arange(PROGRAMS), random.integers(0, LENGTH - 1, PROGRAMS)] = True
    return AuditedTokens(
        program_N=np.repeat(np.arange(PROGRAMS), LENGTH),
        cell_N=random.integers(0, 20, PROGRAMS * LENGTH),
        place_N=place,
        eos_N=place == 1,
        mutated_N=hit.flatten(),
    )


def test_auroc_is_scikit_learns() -> None:
    random = np.random.default_rng(1)
    scores, positive = random.integers(0, 5, 200).astype(float), random.random(200) < 0.3
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    assert auroc(np.array([3.0, 1, 2, 2]), np.array([True, False, True, False])) == 0.875


def test_the_explained_share_is_the_adjusted_r2_of_group_means() -> None:
    random = np.random.default_rng(2)
    groups = random.integers(0, 6, 300)
    values = groups + random.normal(size=300)
    means = np.array([values[groups == g].mean() for g in groups])
    plain = r2_score(values, means)
    assert explained_share(values, groups) == pytest.approx(1 - (1 - plain) * 299 / 294)
    assert explained_share(random.normal(size=3000), random.integers(0, 300, 3000)) < 0.05
    assert explained_share(np.ones(4), np.arange(4)) == 0.0


def test_a_critic_that_knows_is_worth_a_run() -> None:
    tokens, random = tokens_of(), np.random.default_rng(3)
    deltas = random.normal(size=tokens.program_N.size) - 3.0 * tokens.mutated_N
    found = localisation(deltas, tokens)
    assert found.low > 0.9 and found.programs == PROGRAMS and found.by_place < 0.6
    chosen = audit_setting(deltas, tokens, SETTING, second_N=deltas + random.normal(size=deltas.size))
    assert chosen.stability is not None and 0.4 < chosen.stability < 1
    assert 0.5 < chosen.effective_sample_size < 0.8
    assert chosen.explained_by_cell < 0.05
    assert verdict(chosen, found).startswith("Worth a training run")
    unknown = verdict(chosen, None)
    assert (
        unknown.startswith("Nothing speaks against a training run")
        and "no program has a known mutation" in unknown
    )


def test_each_doubt_is_named() -> None:
    tokens, random = tokens_of(), np.random.default_rng(4)
    noise = random.normal(size=tokens.program_N.size)
    sentence = verdict(audit_setting(noise, tokens, SETTING, second_N=-noise), localisation(noise, tokens))
    assert "mutated tokens no better than" in sentence and "second critic" in sentence
    by_class = audit_setting(tokens.cell_N + 0.1 * noise, tokens, SETTING)
    assert by_class.explained_by_cell > 0.95
    assert "class and place of a token explain" in verdict(by_class, None)
    sharp = audit_setting(np.exp(2 * noise), tokens, Setting(0.95, 0.05, 0.0, 1e9))
    assert "effective sample size" in verdict(sharp, None)
    with pytest.raises(DataError, match="known mutation"):
        localisation(noise, tokens_of(mutated=False))


def test_the_grid_has_every_combination() -> None:
    tokens, random = tokens_of(), np.random.default_rng(5)
    noise = {lam: random.normal(size=tokens.program_N.size) for lam in (0.0, 1.0)}
    settings = grid([0.0, 1.0], [0.5, 1.0], [(0.1, 3.0), (0.5, 2.0)])
    audits = audit_grid(settings, tokens, noise.__getitem__)
    assert [audit.setting for audit in audits] == settings and len(settings) == 8
    assert audits[-1] == audit_setting(noise[1.0], tokens, Setting(1.0, 1.0, 0.5, 2.0))
    assert audits[0].effective_sample_size < audits[3].effective_sample_size  # narrower clips, higher beta


def test_a_critic_that_says_nothing_is_not_worth_a_run() -> None:
    """Values that are all equal give weights of 1 everywhere, in which nothing else is amiss."""
    tokens, random = tokens_of(), np.random.default_rng(0)
    varying, dead = random.normal(size=tokens.program_N.size), np.zeros(tokens.program_N.size)
    sentence = verdict(audit_setting(dead, tokens, SETTING), None)
    assert sentence.startswith("Not worth a training run yet: the weights hardly vary")
    beside = audit_setting(varying, tokens, SETTING, second_N=dead)
    assert beside.stability is not None and np.isnan(beside.stability)
    assert "second critic" in verdict(beside, None)
    assert verdict(audit_setting(varying, tokens, SETTING), None).startswith("Nothing speaks against")


def test_eos_weighs_one_in_the_audit_where_it_does_in_training() -> None:
    tokens = tokens_of()
    advantages = np.where(tokens.eos_N, 50.0, np.random.default_rng(0).normal(size=tokens.eos_N.size))
    free, fixed = (audit_setting(advantages, tokens, SETTING, eos_one=one) for one in (False, True))
    assert free.eos_weight > 2 and fixed.eos_weight < 1.5
    assert fixed.effective_sample_size > free.effective_sample_size
