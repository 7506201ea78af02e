"""Which frozen model a policy job uses, and what its values do not allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.recipes import policy_recipe
from tests.models.test_value_model import trained
from tests.tiny import save_tiny_model
from wmtp_ray.cluster.policy import scorer_use
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.errors import ConfigError, ModelError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    critic = trained(save_tiny_model(root / "model"), head="linear")
    for name, objective in (("old", {}), ("ranking", {"objective": {"method": "ranking"}})):
        critic.save(root / name, objective)
    critic.save(root / "lambda", {"objective": {"method": "lambda_return"}})
    return root


def config(root: Path, **sections: object) -> PolicyJobConfig:
    return validate(PolicyJobConfig, policy_recipe(storage={"root": str(root)}, **sections), "a test")


@pytest.mark.parametrize("weighting", [{"gamma": 0.9}, {"rewards": True}])
def test_only_a_lambda_return_critic_is_discounted_or_rewarded(
    root: Path, weighting: dict[str, object]
) -> None:
    section = {"method": "critic", **weighting}
    for name in ("old", "ranking"):
        with pytest.raises(ConfigError, match=r"values of the ranking critic .* set gamma to 1"):
            scorer_use(config(root, weighting=section, critic={"path": str(root / name)}))
    use = scorer_use(config(root, weighting=section, critic={"path": str(root / "lambda")}))
    assert use is not None and use.section == "critic"


def test_only_a_ranking_critic_credits_by_level(root: Path) -> None:
    section = {"method": "critic", "credit": "level"}
    for name in ("old", "ranking", "not-there-yet"):
        assert scorer_use(config(root, weighting=section, critic={"path": str(root / name)})) is not None
    with pytest.raises(ConfigError, match=r"is a λ-return critic; set credit to change"):
        scorer_use(config(root, weighting=section, critic={"path": str(root / "lambda")}))
    with pytest.raises(ConfigError, match="no end to reward"):
        config(root, weighting=section | {"rewards": True}, critic={"path": str(root / "lambda")})


def test_a_critic_of_another_tokenizer_is_refused(root: Path) -> None:
    use = scorer_use(config(root, critic={"path": str(root / "ranking")}))
    assert use is not None
    with pytest.raises(ModelError, match="different tokenizers"):
        use.fingerprint("another")
    [engine] = use.engines()
    assert engine.scored == "values" and engine.backend == "pool"


def test_a_critic_that_is_not_there_names_the_job_that_trains_it(root: Path) -> None:
    use = scorer_use(config(root, critic={"run": "mine", "folds": 2}))  # nothing is read yet
    assert use is not None and len(use.directories) == 2 and use.resources["CPU"] == 2.0
    with pytest.raises(ModelError, match=r"critic-mine-without-0-of-2.*jobs/critic\.py"):
        use.fingerprint("any")
    rho1 = config(root, weighting={"method": "rho1"}, critic=None, reference={"run": "mine"})
    reference = scorer_use(rho1)
    assert reference is not None
    with pytest.raises(ModelError, match=r"no reference at .*ref_tuning-mine.*jobs/ref_tuning\.py"):
        reference.fingerprint("any")
