"""Every arm of a comparison is a valid configuration of the policy job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.recipes import policy_recipe, write_recipe
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.load import load_config
from wmtp_ray.config.weighting import RECIPES, CriticWeighting


@pytest.mark.parametrize("arm", RECIPES)
def test_an_arm_is_the_policy_with_a_few_changes(tmp_path: Path, arm: str) -> None:
    changes = RECIPES[arm]
    reads_critic = not {"weighting.method=uniform", "weighting.method=rho1"} & set(changes)
    recipe = policy_recipe(weighting={}, critic={"run": "mine"} if reads_critic else None)
    if arm == "rho1":
        recipe["reference"] = {"run": "mine"}
    config = load_config(PolicyJobConfig, write_recipe(tmp_path, recipe), changes)
    assert isinstance(config.weighting, CriticWeighting) == reads_critic
    assert config.model.num_heads == (1 if arm.endswith("_k1") else 2)
    assert config.data.sampling.solutions == ("all" if arm.endswith("_all") else "correct")


def test_td0_and_monte_carlo_are_the_ends_of_lambda(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, policy_recipe(weighting={}))
    found = [load_config(PolicyJobConfig, path, RECIPES[arm]).weighting for arm in ("td0", "monte_carlo")]
    assert [w.lam for w in found if isinstance(w, CriticWeighting)] == [0.0, 1.0]
