"""A comparison on a tiny random model: its matrix, what it refuses, and a whole one that is killed on its way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.compare import _move_aside
from tests.cluster.tiny_jobs import (
    STEPS,
    finish,
    kill_tree,
    shared_cluster,
    start,
    tiny_config,
    tiny_root,
    tiny_store,
)
from wmtp_ray.cluster import cells
from wmtp_ray.cluster.compared import described, evaluation_of, solved
from wmtp_ray.cluster.matrix import Cell, Matrix
from wmtp_ray.config.compare import CompareJobConfig
from wmtp_ray.config.data import SamplingConfig
from wmtp_ray.config.load import validate
from wmtp_ray.errors import ConfigError, DataError, ModelError, StoppedError, StorageError
from wmtp_ray.evaluation.samples import JudgedSample
from wmtp_ray.evaluation.verify import Status
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage import read_manifest, write_manifest
from wmtp_ray.storage.runs import RunDirectory

ARMS: list[dict[str, Any]] = [
    {"name": "uniform"},
    {"name": "again", "recipe": "uniform"},
    {"name": "critic", "critic": "trained"},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_root(tmp_path_factory.mktemp("root"))


def content(root: Path, **sections: Any) -> dict[str, Any]:
    """Three arms, two of them the same, under two seeds; `sections` replace whole ones."""
    policy = yaml.safe_load(tiny_config(root, "baseline", "shared").read_text())
    critic = tiny_config(root, "critic", "compared")
    base: dict[str, Any] = {
        "name": "tiny",
        "storage": {"root": str(root)},
        "seeds": [0, 1],
        "arms": ARMS,
        "primary": ["critic", "uniform"],
        "contrasts": [["again", "uniform"]],
        "critics": {"trained": {"config": str(critic)}},
        "scorers": {"window": 3},
        "policy": {key: policy[key] for key in ("data", "model", "optimizer", "checkpoint", "cluster")},
        "held_out": {"solutions": "correct", "split": "test"},
    }
    return base | sections


def comparison(root: Path, **sections: Any) -> CompareJobConfig:
    return validate(CompareJobConfig, content(root, **sections), "compare.yaml")


def test_arms_of_a_seed_share_plan_start_and_settings_and_seeds_share_none(root: Path) -> None:
    k1 = {"name": "one_head", "recipe": "uniform_k1"}
    shifted = {"name": "circular_shift", "critic": "trained"}
    matrix = Matrix(comparison(root, arms=[*ARMS, k1, shifted]))
    made = matrix.cells(dict.fromkeys(("uniform", "again", "critic", "one_head", "circular_shift"), 1e-3))
    assert len(made) == 10 and len({cell.config.name for cell in made}) == 10
    by_seed = [[cell for cell in made if cell.seed == seed] for seed in (0, 1)]
    for own in by_seed:
        assert len({cell.plan.fingerprint for cell in own}) == 1
        assert {cell.config.seed for cell in own} == {own[0].seed}
        settings = [
            cell.config.model_dump(exclude={"name", "weighting", "critic"}) | {"model": None} for cell in own
        ]
        assert all(one == settings[0] for one in settings)
        assert all(cell.config.weighting.normalize == "mean_one" for cell in own)
        assert all(cell.config.weighting.eos_weight == "one" for cell in own)
    first, second = (own[0] for own in by_seed)
    assert first.plan.fingerprint != second.plan.fingerprint
    assert [c.config.weighting.seed for c in made if c.arm == "circular_shift"] == [0, 1]  # type: ignore[union-attr]
    assert [c.config.model.num_heads for c in by_seed[0]] == [2, 2, 2, 1, 2]


def test_the_extended_arm_costs_what_the_other_costs_with_its_critic(root: Path) -> None:
    more = {"name": "longer", "recipe": "uniform", "equal_flops_to": "critic"}
    matrix = Matrix(comparison(root, arms=[*ARMS, more]))
    uniform, _, critic, longer = matrix.cells(dict.fromkeys(("uniform", "again", "critic", "longer"), 1e-3))[
        :4
    ]
    assert uniform.cost.total == uniform.cost.policy == critic.cost.policy
    assert critic.cost.scorer_training > 0 and critic.cost.scoring > 0
    assert longer.plan.num_steps > uniform.plan.num_steps == STEPS
    step = uniform.cost.policy / STEPS
    assert abs(longer.cost.total - critic.cost.total) < step
    for name in ("row", "step", "packed_row"):
        start = uniform.plan.columns[name]
        assert np.array_equal(longer.plan.columns[name][: len(start)], start)
    assert critic.cost.labelled > uniform.cost.labelled


def test_a_dry_run_prints_the_matrix_and_starts_nothing(root: Path) -> None:
    lines = list(described(Matrix(comparison(root, learning_rates=[1e-3, 2e-3]))))
    text = "\n".join(lines)
    assert "critic-compared: will be trained; 1 of it, 12 steps" in text
    assert f"cell-tiny-critic-lr0.002-0: to train; {STEPS} steps" in text
    assert "6 cells choose among learning rates" in text
    assert "9 cells, 0 of them finished" in text  # the first seed of the taken rate is not trained twice
    assert "18 programs of 6 held-out problems" in text
    assert not (root / "runs" / "compare-tiny").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"seeds": []}, r"seeds = \[\]"),
        ({"seeds": [1, 1]}, "seeds: '1' is given twice"),
        ({"arms": ARMS[:1]}, "at least 2 items"),
        ({"arms": [*ARMS, {"name": "critic", "critic": "trained"}]}, "arms: 'critic' is given twice"),
        ({"arms": [*ARMS, {"name": "unifrom"}]}, "'unifrom' is not among .*did you mean uniform"),
        ({"primary": ["critic", "baseline"]}, "primary = 'baseline' is not among uniform, again, critic"),
        ({"primary": ["critic", "critic"]}, "primary compares critic with itself"),
        ({"contrasts": [["critic", "uniform"]]}, r"contrasts\[0\] is the primary one"),
        ({"contrasts": [["critic", "chance"]]}, r"contrasts\[0\] = 'chance' is not among"),
        ({"arms": [*ARMS[:2], {"name": "critic", "critic": "traned"}]}, "did you mean trained"),
        (
            {"arms": [*ARMS[:2], {"name": "critic"}]},
            "arm critic: weighting.method = critic needs a critic section",
        ),
        ({"arms": [*ARMS, {"name": "x", "recipe": "uniform", "critic": "trained"}]}, "reads no critic"),
        (
            {"arms": [*ARMS, {"name": "x", "recipe": "uniform", "overrides": ["model.lora.rank=8"]}]},
            "arms.x changes model.lora.rank, which is the same in every arm",
        ),
        (
            {"arms": [*ARMS, {"name": "x", "recipe": "uniform", "overrides": ["weighting.normalize=none"]}]},
            "arms.x changes weighting.normalize",
        ),
        (
            {
                "arms": [
                    *ARMS,
                    {"name": "x", "recipe": "critic", "critic": "trained", "equal_flops_to": "uniform"},
                ]
            },
            "only an arm without scorers is extended",
        ),
        ({"held_out": {"solutions": "correct", "split": "valid"}}, "train and valid are used"),
        ({"held_out": {"solutions": "pairs", "split": "test"}}, "it needs single solutions"),
        ({"critics": {"trained": {}}}, "set exactly one"),
        ({"critics": {"trained": {"run": "x", "overrides": ["seed=1"]}}}, "overrides of the finished run"),
        ({"learning_rates": []}, "learning_rates"),
    ],
)
def test_what_cannot_be_compared_is_refused(root: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        comparison(root, **sections)


def test_critics_that_are_missing_or_one_run_under_two_names_are_refused(root: Path) -> None:
    with pytest.raises(
        StorageError, match=r"critics\.trained names the run .*critic-nowhere, which is not finished"
    ):
        Matrix(comparison(root, critics={"trained": {"run": "nowhere"}}))
    file = str(root / "critic-compared.yaml")
    twice = {"trained": {"config": file}, "shuffled": {"config": file, "overrides": ["seed=1"]}}
    with pytest.raises(ConfigError, match="are both the run critic-compared; give one of them a name"):
        Matrix(comparison(root, critics=twice))


def test_a_critic_that_trains_on_held_out_problems_is_refused(root: Path) -> None:
    Matrix(comparison(root)).check_held_out()
    file = str(root / "critic-compared.yaml")
    leaking = {"trained": {"config": file, "overrides": ["data.sampling.split=test"]}}
    with pytest.raises(ConfigError, match="critic-compared trains on, or is chosen by, 6 of the 6 problems"):
        Matrix(comparison(root, critics=leaking)).check_held_out()


def test_a_critic_of_another_store_that_knows_held_out_problems_is_refused(tmp_path: Path) -> None:
    root = tiny_root(tmp_path)
    tiny_store(root, problems=26, name="other")  # two problems of what is split `test` in both
    file = str(root / "critic-compared.yaml")
    for change in ("data.sampling.split=test", "data.validation.split=test"):
        overrides = ["data.store=other", change, "checkpoint.export=best", "validation.every_steps=1"]
        critics = {"trained": {"config": file, "overrides": overrides}}
        with pytest.raises(ConfigError, match="2 of the 6 problems of held_out"):
            Matrix(comparison(root, critics=critics)).check_held_out()
    last = {"trained": {"config": file, "overrides": ["data.store=other", "data.validation.split=test"]}}
    Matrix(comparison(root, critics=last)).check_held_out()


def test_what_a_step_of_all_comparisons_costs_counts(root: Path) -> None:
    def training(*overrides: str) -> float:
        critics = {"trained": {"config": str(root / "critic-compared.yaml"), "overrides": overrides}}
        matrix = Matrix(comparison(root, critics=critics))
        return matrix.cell(matrix.comparison.arm("critic"), 0, 1e-3).cost.scorer_training

    method = "objective.method=ranking"
    planned, step = training(method), training(method, "objective.pairs=step")
    assert planned < step < 2 * planned
    alone = ("data.plan.micro_batches_per_step=1", "cluster.num_workers=1")
    assert training(method, *alone) == training(method, "objective.pairs=step", *alone)


def test_fresh_moves_everything_aside_before_anything_is_trained(root: Path) -> None:
    matrix = Matrix(comparison(root, name="aside", learning_rates=[1e-3, 2e-3]))
    names = {cell.config.name for cell in matrix.every_cell()}
    assert len(names) == 3 * 2 * 2
    runs = [f"cell-{name}" for name in names] + ["compare-aside", "evaluate-compare-aside"]
    for run in runs:
        (root / "runs" / run).mkdir(parents=True)
    _move_aside(matrix)
    left = [path.name for path in (root / "runs").iterdir() if "aside" in path.name]
    assert len(left) == len(runs) and not set(left) & set(runs)


@pytest.mark.parametrize("asked", [False, True])
def test_after_a_failure_or_a_request_to_stop_no_cell_is_begun(
    root: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    begun: list[str] = []

    def train(cell: Cell, held_out: SamplingConfig) -> None:
        begun.append(cell.config.name)
        if asked:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        elif len(begun) == 1:
            raise ModelError("the first one fails")

    monkeypatch.setattr(cells.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(cells, "_room", lambda cell: 2)
    monkeypatch.setattr(cells, "_train", train)
    matrix = Matrix(comparison(root, name="stopped"))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError if asked else ModelError, match=r"not begun|the first one fails"):
        cells.train_cells(matrix.every_cell(), matrix.comparison.held_out, None, lambda line: None)
    assert 1 <= len(begun) <= 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_cell_that_is_still_starting_hears_the_request_to_stop_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    heard: list[str] = []

    def train(cell: Cell, held_out: SamplingConfig) -> None:
        if not asked:
            asked.append(cell.config.name)
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.5)  # before its first attempt, as if it hashed its data
        cell.run.path.mkdir(parents=True, exist_ok=True)
        attempt, until = cell.run.begin_attempt(), time.monotonic() + 30
        while not cell.run.stop_requested(attempt) and time.monotonic() < until:
            time.sleep(0.05)
        assert cell.run.stop_requested(attempt)
        heard.append(cell.config.name)
        raise StoppedError(f"{cell.config.name} stopped")

    monkeypatch.setattr(cells.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(cells, "_room", lambda cell: 2)
    monkeypatch.setattr(cells, "_train", train)
    matrix = Matrix(comparison(root, name="starting"))
    with pytest.raises(StoppedError):
        cells.train_cells(matrix.every_cell(), matrix.comparison.held_out, None, lambda line: None)
    assert heard


def test_a_critic_of_a_store_that_was_prepared_anew_is_refused(tmp_path: Path) -> None:
    root = tiny_root(tmp_path)
    [critic] = Matrix(comparison(root)).frozen
    [part] = critic.parts
    run, plan = critic.directory(part), critic.plan(part)
    run.path.mkdir(parents=True)
    plan.save(run.plan)
    run.finish({})
    critic.check_stores()
    shutil.rmtree(root / "stores" / "tiny")
    tiny_store(root, problems=29)
    with pytest.raises(DataError, match=r"critic-compared was trained before .* prepared anew .* --fresh"):
        critic.check_stores()


def test_pass_at_k_is_of_the_same_problems_for_all() -> None:
    def judged(model: str, problem: str, *verdicts: Status) -> list[JudgedSample]:
        return [
            JudgedSample(model, 1.0, "mini", problem, n, "", 1, False, verdict, "", 0, 1, 0.1)
            for n, verdict in enumerate(verdicts)
        ]

    samples = [*judged("a", "p", "passed", "error"), *judged("b", "p", "error", "passed", "sandbox_fault")]
    [(name, found)] = solved(samples, [1]).items()
    assert name == "pass@1 (mini)" and found["a"].tolist() == found["b"].tolist() == [0.5]
    samples += [*judged("a", "q", "passed"), *judged("b", "q", "sandbox_fault")]
    with pytest.raises(DataError, match="b has 0 verdicts on problem q of mini"):
        solved(samples, [1])


PASS_AT_K: dict[str, Any] = {
    "benchmarks": [{"kind": "humaneval", "limit": 2}],
    "decoding": {"samples_per_problem": 1, "k": [1], "temperature": 1.0, "max_tokens": 8},
    "engine": {"dtype": "float32", "max_length": 512},
}


def test_a_comparison_may_be_given_more_seeds_and_samples_but_no_other_primary_contrast(root: Path) -> None:
    def opened(**sections: Any) -> None:
        config = comparison(root, name="grown", **sections)
        RunDirectory.open(root, "compare", config)
        assert config.pass_at_k is not None
        made = Matrix(config).cells(dict.fromkeys(("uniform", "again", "critic"), 1e-3))
        wanted = evaluation_of(config, config.pass_at_k, made)
        assert len(wanted.models) == 3 * len(config.seeds)
        RunDirectory.open(root, "evaluate", wanted)

    opened(seeds=[0], pass_at_k=PASS_AT_K)
    more = PASS_AT_K["decoding"] | {"samples_per_problem": 4, "k": [1, 4]}
    opened(seeds=[0, 1, 2], pass_at_k=PASS_AT_K | {"decoding": more})
    with pytest.raises(ConfigError, match=r"decoding\.max_tokens was 8, is 9"):
        opened(pass_at_k=PASS_AT_K | {"decoding": more | {"max_tokens": 9}})
    with pytest.raises(ConfigError, match=r"primary was .* is .*again"):
        opened(pass_at_k=PASS_AT_K, primary=["again", "uniform"], contrasts=[])


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster with room for two cells at a time."""
    with shared_cluster(5) as address:
        yield address


def trained(root: Path) -> dict[str, int]:
    """When each finished cell was finished."""
    results = (root / "runs").glob("cell-*/result.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in results}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_comparison_goes_on_and_identical_arms_do_not_differ(root: Path, address: str) -> None:
    config = root / "compare.yaml"
    config.write_text(yaml.safe_dump(content(root, pass_at_k=PASS_AT_K)))
    first = start("compare", config, address)
    deadline = time.monotonic() + 600
    while not trained(root):
        assert first.poll() is None and time.monotonic() < deadline, first.communicate()[0]
        time.sleep(0.1)
    kill_tree(first)
    before = trained(root)
    assert 1 <= len(before) < 6

    output = finish(start("compare", config, address), timeout=600)
    assert f"6 cells, {len(before)} of them finished and used again" in output
    assert f"{6 - len(before)} cells, 2 at a time" in output
    assert before.items() <= trained(root).items()
    run = root / "runs" / "compare-tiny"
    result = json.loads((run / "result.json").read_text())
    [same] = result["secondary"]
    assert same["by_seed"] == [0.0, 0.0] and same["estimate"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert same["p_value"] == 1.0
    assert result["primary"]["estimate"]["mean"] != 0.0 and len(set(result["primary"]["by_seed"])) == 2
    assert list(result["others"]) == ["pass@1 (humaneval)"]
    assert "No difference is claimed with fewer than 5 seeds" in output
    assert result["sentences"][0] in (run / "report.md").read_text()
    html = (run / "report.html").read_text()
    assert "No difference is claimed" in html and "<svg" in html
    assert len((run / "results.csv").read_text().splitlines()) == 1 + 3 * 2 * 2 + 2 * 2

    again = finish(start("compare", config))  # everything is there: no Ray is started
    assert "6 cells, 6 of them finished and used again" in again
    assert json.loads((run / "result.json").read_text()) == result
    exported = root / "runs" / "critic-compared" / "export"
    write_manifest(exported, KIND, **(read_manifest(exported, KIND).facts | {"fingerprint": "another"}))
    refused = start("compare", config)
    printed, _ = refused.communicate(timeout=300)
    assert refused.returncode == 1
    assert "was trained with another critic than the one that is there now" in printed
