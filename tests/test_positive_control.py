"""The machinery finds an advantage where there is one, and none where there is none."""

from __future__ import annotations

from statistics import mean

import pytest

from benchmarks.planted import run_control

ARMS = ("uniform", "oracle", "shuffled_oracle", "lambda_return")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_oracle_weights_win_shuffled_ones_do_not_and_a_real_critic_lands_between() -> None:
    runs = [run_control(seed, ARMS) for seed in (0, 1)]
    for run in runs:
        assert run["oracle"] < 0.3 * run["uniform"]
        assert run["shuffled_oracle"] > 0.85 * run["uniform"]
        assert run["oracle"] < run["lambda_return"] < 0.8 * run["uniform"]
    of_arm = {arm: mean(run[arm] for run in runs) for arm in ARMS}
    assert of_arm["shuffled_oracle"] == pytest.approx(of_arm["uniform"], rel=0.15)
