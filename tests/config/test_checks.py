"""Contradictions between sections: each is refused in a sentence that names both keys."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.config.recipes import critic_recipe, policy_recipe
from wmtp_ray.config import CriticJobConfig, PolicyJobConfig, dump_yaml
from wmtp_ray.config.evaluate import RerankConfig
from wmtp_ray.config.load import validate
from wmtp_ray.errors import ConfigError


def _data(**changes: Any) -> dict[str, Any]:
    return policy_recipe()["data"] | changes


CURRICULUM = {
    "solutions": "correct",
    "difficulty_bins": {"all": [0, 30]},
    "difficulty_weights": {"all": 1},
    "curriculum": [{"from_epoch": 2, "difficulty_weights": {"all": 1}}],
}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"data": _data(validation={"solutions": "correct", "split": "train"})},
            "data.validation.split and data.sampling.split are both train",
        ),
        (
            {"data": _data(sampling=CURRICULUM)},
            "data.sampling.curriculum has a stage from epoch 2, but data.plan.epochs = 1",
        ),
        (
            {"data": _data(validation=CURRICULUM | {"split": "valid"})},
            "data.validation.curriculum: a validation plan has one epoch only",
        ),
        (
            {"cluster": {"num_workers": 3}},
            "cluster.num_workers = 3 is more than data.plan.micro_batches_per_step = 2",
        ),
        (
            {"data": _data(sampling={"solutions": "pairs"})},
            "data.sampling.solutions = pairs does not fit this job; choose correct or all",
        ),
        ({"critic": None}, "weighting.method = critic needs a critic section"),
        ({"weighting": {"method": "uniform"}}, "weighting.method = uniform reads no critic"),
        ({"critic": {}}, "critic.run = None and critic.path = None; set exactly one"),
        ({"critic": {"run": "a", "path": "/b"}}, "critic.run = 'a' and critic.path = '/b'; set exactly one"),
        ({"critic": {"path": "here"}}, "critic.path = 'here' is relative; give an absolute path"),
        (
            {"critic": {"run": "a", "actors": [3, 1]}},
            "actors = [3, 1]: the first is the least number",
        ),
        (
            {"critic": {"run": "a", "backend": "serve"}},
            "critic.backend = serve and critic.url = None; a URL belongs to serve",
        ),
        (
            {"critic": {"path": "/a", "folds": 2}},
            "critic.folds = 2 needs critic.run",
        ),
        ({"weighting": {"method": "shuffled"}, "critic": None}, "weighting.method = shuffled needs a critic"),
        (
            {"weighting": {"method": "rho1"}, "critic": None},
            "weighting.method = rho1 needs a reference section",
        ),
        (
            {"weighting": {"method": "rho1"}, "reference": {"run": "a"}},
            "weighting.method = rho1 reads no critic; remove the critic section",
        ),
        (
            {"model": {"name": "smollm2-135m", "num_heads": 2, "lora": None}},
            "model.lora = null needs model.head_training = full",
        ),
        (
            {"weighting": {"method": "critic", "min_weight": 4}},
            "min_weight = 4.0 is more than max_weight = 3.0",
        ),
        (
            {"weighting": {"method": "critic", "credit": "level", "first_token": "zero"}},
            "credit = level and first_token = zero: a level is not counted from the token before",
        ),
        (
            {"loss": {"head_coefficients": [1, 1, 1]}},
            "loss.head_coefficients has 3 numbers, model.num_heads is 2",
        ),
        (
            {"checkpoint": {"export": "best"}},
            "checkpoint.export = best with validation.every_steps = null would be the last step",
        ),
        ({"loss": {"head_coefficients": [0, 0]}}, "loss.head_coefficients are all 0"),
        (
            {"data": _data(plan={"micro_batches_per_step": 2})},
            "samples_per_micro_batch = None and tokens_per_micro_batch = None; set exactly one",
        ),
        (
            {"data": _data(plan={"micro_batches_per_step": 2, "tokens_per_micro_batch": 8, "row_tokens": 9})},
            "row_tokens = 9 is more than tokens_per_micro_batch = 8",
        ),
        (
            {"data": _data(sampling={"solutions": "correct", "difficulty_bins": {"low": [1, 5]}})},
            "difficulty_bins and difficulty_weights belong together",
        ),
    ],
)
def test_policy_contradictions(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        validate(PolicyJobConfig, policy_recipe(**sections), "a test")
    assert message in str(raised.value)


def test_a_critic_needs_pairs() -> None:
    data = critic_recipe()["data"] | {"validation": {"solutions": "all", "split": "valid"}}
    with pytest.raises(
        ConfigError, match=r"data\.validation\.solutions = all .* choose pairs or length_balanced"
    ):
        validate(CriticJobConfig, critic_recipe(data=data), "a test")


@pytest.mark.parametrize(
    ("checkpoint", "best_is"),
    [
        ({}, "lowest"),
        ({"best_metric": "val_loss_unweighted"}, "lowest"),
        ({"best_metric": "val_pairwise_accuracy"}, "highest"),
        ({"best_metric": "val_margin"}, "highest"),
        ({"best_metric": "val_margin", "best_is": "lowest"}, "lowest"),
    ],
)
def test_what_is_best_depends_on_the_metric_unless_it_is_said(
    checkpoint: dict[str, Any], best_is: str
) -> None:
    config = validate(CriticJobConfig, critic_recipe(checkpoint=checkpoint), "a test")
    assert config.checkpoint.best_is == best_is
    again = validate(CriticJobConfig, yaml.safe_load(dump_yaml(config)), "a test")
    assert again.checkpoint == config.checkpoint


def test_a_metric_that_is_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.best_metric"):
        validate(CriticJobConfig, critic_recipe(checkpoint={"best_metric": 3}), "a test")


def test_a_coefficient_of_zero_is_allowed_beside_others() -> None:
    config = validate(PolicyJobConfig, policy_recipe(loss={"head_coefficients": [1, 0]}), "a test")
    assert config.loss.head_coefficients == (1.0, 0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": "mine", "path": "/x"}, "set exactly one of them"),
        ({"path": "critics/mine"}, "is relative; give an absolute path"),
        ({"run": "mine", "backend": "serve"}, "a URL belongs to serve alone"),
        ({"run": "mine", "folds": 2}, "samples are ranked by one critic"),
    ],
)
def test_a_critic_that_ranks_samples_is_named_as_one_that_weighs_tokens(settings, message):
    with pytest.raises(ValueError, match=message):
        RerankConfig(**settings)


def test_the_jobs_seed_is_that_of_sampling_unless_it_has_its_own():
    def seeds(**changes: Any) -> tuple[int, int, int]:
        config = validate(CriticJobConfig, critic_recipe() | changes, "a test")
        return config.seed, config.data.sampling.seed, config.data.validation.seed

    data = critic_recipe()["data"]
    assert seeds() == (0, 0, 0) and seeds(seed=3) == (3, 3, 0)
    own = data | {"sampling": data["sampling"] | {"seed": 5}}
    assert seeds(seed=3, data=own) == (3, 5, 0)
    assert (
        data["sampling"].keys() == critic_recipe()["data"]["sampling"].keys()
    )  # nothing was written into it
