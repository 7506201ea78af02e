"""The report of a training run: from real runs on a tiny model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from tests.training.runs import trainer_of
from tests.training.scenes import Scene, Values
from wmtp_ray.evaluation.critic_diagnostics import diagnose
from wmtp_ray.report.runs import DIAGNOSTICS, TrainingRun, WeightedSample, training_run
from wmtp_ray.report.training import training_report
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.storage.timeline import read_timeline
from wmtp_ray.training.held_out import read_held_out_pairs


@pytest.fixture(scope="module")
def critic(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A critic's run of 5 steps with validation after steps 0, 3 and 5."""
    trainer = trainer_of(scene, "critic", tmp_path_factory.mktemp("critic"), None)
    trainer.train()
    return trainer.run


def test_a_critic_leaves_its_held_out_pairs_and_a_timeline(critic: RunDirectory) -> None:
    step, pairs = read_held_out_pairs(critic.path)
    last = [json.loads(line) for line in critic.metrics.read_text().splitlines()][-1]
    assert step == 5 and len(pairs) == last["val_pairs"]
    assert sum(pair.margin for pair in pairs) / len(pairs) == pytest.approx(last["val_margin"], abs=1e-6)
    for pair in pairs:
        assert len(pair.incorrect_values) == pair.tokens[1]
        assert sum(pair.incorrect_values) / pair.tokens[1] == pytest.approx(pair.means[1], abs=1e-4)
    activities = [span.activity for span in read_timeline(critic.path)]
    assert activities.count("validation") == 3 and activities.count("checkpoint") >= 3


def test_a_critics_report_shows_its_diagnostics(
    critic: RunDirectory, scene: Scene, byte_tokenizer: object
) -> None:
    step, pairs = read_held_out_pairs(critic.path)
    critic.write(DIAGNOSTICS, diagnose(step, pairs, scene.store, byte_tokenizer).to_json())  # pyright: ignore
    html = training_report(training_run(critic))
    for heading in ("Critic on held-out pairs", "Training", "Resources", "Settings"):
        assert f"<h2>{heading}</h2>" in html
    for shown in ("pairs ranked right", "by difficulty", "value margin", "gradient norm", "validation"):
        assert shown in html
    assert "Token weights" not in html, "a critic has none"
    assert not re.search(r"#f0f00\d|#0a0b0c|<script|https?://(?!www\.w3\.org)", html)


def test_a_policys_report_shows_heads_weights_and_what_else_there_is(
    scene: Scene, values: Values, tmp_path: Path
) -> None:
    trainer = trainer_of(scene, "policy", tmp_path, values)
    trainer.train()
    run = training_run(trainer.run)
    assert run.attempts and run.timeline and run.diagnostics is None
    html = training_report(run)
    for shown in ("2 ahead", "greatest", "effective sample size", "moving mean", "token weight", "training"):
        assert shown in html
    assert "Critic on held-out pairs" not in html
    several = training_report(replace(run, notices="resumed after step 3 of 5 <again>"))
    assert "&lt;again&gt;" in several


def test_a_tokens_numbers_are_shown_by_touch_and_listed_for_the_keyboard() -> None:
    tokens = ("def", " f", '("<b>")', "\n")
    sample = WeightedSample("7", tokens, (0.5, 0.25, -1, 2), (0.1, -0.2, 0.3, 0), (0.5, 1.25, 3, 1))
    html = training_report(TrainingRun("a", (), samples=(sample,)))
    heat = re.findall(r"<pre class=heat>(.*?)</pre>", html, re.S)[0]
    shown = re.findall(
        r'<span class=token tabindex=-1 style="[^"]*" data-numbers="([^"]*)">(.*?)</span>', heat, re.S
    )
    assert [unescape(text) for _, text in shown] == list(tokens)
    assert shown[1][0] == "weight 1.25, advantage -0.200, value 0.250"
    for state in (":hover", ":focus"):
        assert re.search(rf"\.token:is\([^)]*{state}[^)]*\)::after {{ content: attr\(data-numbers\)", html)
    listed = re.findall(r"<summary>numbers</summary><pre>(.*?)</pre>", html, re.S)[0]
    assert unescape(listed).splitlines() == [f"{said}  {unescape(text)!r}" for said, text in shown]
    assert "title=" not in heat and "tabindex=0" not in html


def test_a_run_that_wrote_nothing_yet_has_an_empty_report(tmp_path: Path) -> None:
    assert "<h1>" in training_report(training_run(RunDirectory(tmp_path)))
