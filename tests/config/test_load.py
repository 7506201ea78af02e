"""What a file and overrides become, and how their mistakes read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.recipes import critic_recipe, policy_recipe, write_recipe
from wmtp_ray.config import CriticJobConfig, PolicyJobConfig, dump_yaml, load_config, model
from wmtp_ray.config.audit import AuditJobConfig
from wmtp_ray.config.collect import CollectJobConfig
from wmtp_ray.config.compare import CompareJobConfig
from wmtp_ray.config.evaluate import EvaluateJobConfig
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.config.load import validate, validate_overrides
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.config.run import OptimizerConfig
from wmtp_ray.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
JOBS = {
    "audit": AuditJobConfig,
    "collect": CollectJobConfig,
    "compare": CompareJobConfig,
    "critic": CriticJobConfig,
    "evaluate": EvaluateJobConfig,
    "prepare": PrepareJobConfig,
    **dict.fromkeys(("baseline", "verifiable", "ref_tuning", "rho1"), PolicyJobConfig),
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, policy_recipe())


@pytest.mark.parametrize("place", ["quickstart", "production"])
@pytest.mark.parametrize("job", JOBS)
def test_shipped_recipes_load_and_survive_a_round_trip(place: str, job: str, tmp_path: Path) -> None:
    config = load_config(JOBS[job], CONFIGS / place / f"{job}.yaml")
    dumped = tmp_path / "config.yaml"
    for written in (dump_yaml(config), explained_yaml(config)):
        dumped.write_text(written)
        assert load_config(JOBS[job], dumped) == config


def test_every_key_is_told_with_its_meaning(recipe: Path) -> None:
    told = explained_yaml(load_config(PolicyJobConfig, recipe)).splitlines()
    at = told.index("  warmup_share: 0.03")
    assert (
        told[at - 1] == "  # Share of all steps over which the rate rises linearly, its first step above 0."
    )
    assert all(len(line) <= 120 for line in told)


@pytest.mark.parametrize(("fast", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_what_the_machine_is_fast_in_and_recorded_as_such(
    fast: bool, dtype: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "computes_in_bfloat16", lambda: fast)
    config = load_config(PolicyJobConfig, recipe, ["model.dtype=auto"])
    assert config.model.dtype == dtype
    assert f"dtype: {dtype}" in dump_yaml(config)
    assert load_config(PolicyJobConfig, recipe, ["model.dtype=float32"]).model.dtype == "float32"
    with pytest.raises(ConfigError, match="bf16"):
        load_config(PolicyJobConfig, recipe, ["model.dtype=bf16"])


def test_the_default_root_is_absolute() -> None:
    root = validate(PolicyJobConfig, policy_recipe(), "a test").storage.root
    assert root == Path.home() / "wmtp"


def test_overrides_change_only_what_they_name(recipe: Path) -> None:
    plain = load_config(PolicyJobConfig, recipe)
    changed = load_config(
        PolicyJobConfig,
        recipe,
        [
            "data.plan.max_steps=4",
            "model.lora={rank: 2}",
            "loss.head_coefficients=[1, 0.5]",
            "optimizer.eps=1e-6",
        ],
    )
    assert changed.data.plan.max_steps == 4
    assert changed.model.lora is not None and changed.model.lora.rank == 2
    assert changed.loss.head_coefficients == (1.0, 0.5)
    assert changed.optimizer.eps == 1e-6  # YAML 1.1 reads 1e-6 as text
    assert changed.data.sampling == plain.data.sampling
    assert changed.weighting == plain.weighting


def test_an_override_fills_a_section_that_the_file_leaves_empty(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, policy_recipe(optimizer=None))
    assert load_config(PolicyJobConfig, path, ["optimizer.weight_decay=0"]).optimizer.weight_decay == 0


@settings(max_examples=10)
@given(st.floats(1e-12, 1e3), st.integers(0, 2**31))
def test_any_number_survives_dump_and_load(rate: float, seed: int) -> None:
    config = validate(PolicyJobConfig, policy_recipe(seed=seed, optimizer={"learning_rate": rate}), "a test")
    assert validate(PolicyJobConfig, yaml.safe_load(dump_yaml(config)), "a test") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("wieghting.beta=1", "unknown key wieghting; did you mean weighting?"),
        ("data.plan.max_step=1", "unknown key data.plan.max_step; did you mean max_steps?"),
        ("model.lora.rnk=8", "unknown key model.lora.rnk; did you mean rank?"),
        # of the chosen member of a union, as the user writes it
        ("weighting.min_wieght=1", "unknown key weighting.min_wieght; did you mean min_weight?"),
        ("weighting.beta=0", "weighting.beta = 0: input should be greater than 0"),
        ("weighting.method=critc", "weighting.method = 'critc': input should be one of 'uniform', 'critic'"),
        (
            "weighting={beta: 1}",
            "weighting.method is missing; set it in the file or as weighting.method=VALUE",
        ),
        ("data.plan=3", "data.plan = 3: input should be a valid dictionary or instance of PlanConfig"),
        ("data.plan={}", "data.plan.micro_batches_per_step is missing; set it in the file or as"),
        ("optimizer.betas=[0.9]", "optimizer.betas has 1 values, which is too few"),
        ("optimizer.betas=[0.9, 1]", "optimizer.betas.1 = 1: input should be less than 1"),
        ("weighting.gamma=0", "weighting.gamma = 0: input should be greater than 0"),
        ("storage.root=here", "storage.root = 'here' is relative; give an absolute path"),
        ("name=../escape", "name = '../escape': string should match pattern"),
        ("seed", "override 'seed' is not of the form key.sub=value"),
        ("=1", "override '=1' is not of the form key.sub=value"),
        ("seed=[1", "override 'seed=[1': '[1' is not a YAML value; quote it"),
        ("model={name: x, name: y}", "is not a YAML value"),
        ("name.first=x", "override 'name.first=x': name is 'mine', not a section"),
    ],
)
def test_mistakes_name_key_value_and_remedy(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(PolicyJobConfig, recipe, [override])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_critic_of_random_labels_is_not_chosen_by_true_ones(tmp_path: Path) -> None:
    random = {"method": "ranking", "shuffle_labels": True}
    path = write_recipe(tmp_path, critic_recipe(objective=random, validation={"every_steps": 5}))
    load_config(CriticJobConfig, path)
    with pytest.raises(ConfigError, match=r"set checkpoint\.export=last"):
        load_config(CriticJobConfig, path, ["checkpoint.export=best"])


def test_a_mistake_says_whether_the_command_line_made_it(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, policy_recipe(sede=1))
    with pytest.raises(ConfigError) as raised:
        load_config(
            PolicyJobConfig, path, ["weighting.min_wieght=1", "optimizer.eps=-1", "clutser.num_workers=2"]
        )
    message, remark = str(raised.value), r"[^?]* \(changed on the command line\)"
    for start in (r"min_wieght; did you mean min_weight\?", r"eps = -1", r"clutser; did you mean cluster\?"):
        assert re.search(start + remark, message), message
    assert message.count("changed") == 3


def test_keys_of_another_member_are_not_offered(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, policy_recipe(weighting={"method": "uniform", "beta": 1}, critic=None))
    with pytest.raises(ConfigError, match=r"unknown key weighting\.beta; did you mean (method|eos_weight)\?"):
        load_config(PolicyJobConfig, path)


def test_a_union_whose_tag_has_no_default_reads_as_well(tmp_path: Path) -> None:
    path = write_recipe(
        tmp_path,
        {"name": "x", "source": {"kind": "jsonl", "path": "a"}, "tokenizer": "t", "max_length": 9},
    )
    with pytest.raises(ConfigError) as raised:
        load_config(PrepareJobConfig, path)
    assert "source.paths is missing" in str(raised.value)
    assert "unknown key source.path; did you mean paths?" in str(raised.value)


def test_every_mistake_is_listed(recipe: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(PolicyJobConfig, recipe, ["seed=-1", "optimizer.eps=-1", "clutser.num_workers=2"])
    for key in ("seed = -1", "optimizer.eps = -1", "unknown key clutser"):
        assert key in str(raised.value)
    assert str(raised.value).startswith(str(recipe))


def test_adapters_need_a_place(recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora\.target_modules = \[\]"):
        load_config(PolicyJobConfig, recipe, ["model.lora={target_modules: []}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"", "holds NoneType, not a mapping"),
        (b"- a\n- b\n", "holds list, not a mapping"),
        (b"seed: 1\nname: a\nseed: 2\n", "key seed stands twice in one section"),
        (b"{? [1, 2] : 3}", "cannot be read as YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as raised:
        load_config(PolicyJobConfig, path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config(PolicyJobConfig, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(PolicyJobConfig, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(PolicyJobConfig, tmp_path / "file" / "job.yaml")


def test_defaults_and_overrides_alone() -> None:
    assert validate_overrides(OptimizerConfig, ["eps=1e-7"]).eps == 1e-7
    with pytest.raises(ConfigError, match=r"command line: unknown key epz; did you mean eps\?"):
        validate_overrides(OptimizerConfig, ["epz=1"])
