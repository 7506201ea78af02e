"""`jobs/audit.py` on a tiny critic: from the cache alone, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.audit import run
from tests.models.test_value_model import trained
from tests.tiny import save_tiny_model
from wmtp_ray.config.audit import AuditJobConfig
from wmtp_ray.config.command import Flags
from wmtp_ray.config.load import validate
from wmtp_ray.data.records import Problem, Solution
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store
from wmtp_ray.errors import ConfigError, ModelError, StorageError
from wmtp_ray.models.score_engine import EngineSettings
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage import read_manifest
from wmtp_ray.storage.runs import RunDirectory

FLAGS = Flags(dry_run=False, fresh=False)
SIGNS = "- * // % ** @ & |".split()


def problem(number: int) -> Problem:
    """Right programs add; wrong ones have another operator, which is their mutated span."""
    start = f"def f{number}(x):\n    y = x "
    end = f" {number}\n    return y\n"
    wrong = tuple(
        Solution(f"{start}{sign}{end}", False, mutated_span=(len(start), len(start) + len(sign)))
        for sign in SIGNS[:4]
    )
    return Problem(
        f"tiny/{number}", f"Add {number} to x.", (Solution(f"{start}+{end}", True), *wrong), split="valid"
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    model = save_tiny_model(root / "model")
    tokenizer = load_tokenizer(model)
    write_store(
        root / "stores" / "tiny",
        [problem(number) for number in range(6)],
        tokenizer,
        128,
        source="written by a test",
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
    )
    for seed in (0, 1):
        trained(model, head="linear", initial_bias=float(seed)).save(root / f"critic-{seed}", {})
    return root


def config(root: Path, **changes: object) -> AuditJobConfig:
    content = {
        "name": "tiny",
        "storage": {"root": str(root)},
        "tokenizer": str(root / "model"),
        "data": {
            "store": "tiny",
            "sampling": {"solutions": "all", "split": "valid"},
            "plan": {"micro_batches_per_step": 2, "samples_per_micro_batch": 4},
        },
        "critic": {"path": str(root / "critic-0")},
        "second_critic": {"path": str(root / "critic-1")},
    }
    return validate(AuditJobConfig, content | changes, "a test")


def test_an_audit_reads_the_cache_and_says_whether_to_train(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"lacks values of \d+ of \d+ micro-batches; .* score_missing=true"):
        run(config(root), FLAGS)
    run(config(root, score_missing=True), FLAGS)
    audited = RunDirectory(root / "runs" / "audit-tiny")
    first = audited.result
    assert first is not None and first["commit"] == audited.attempts[-1]["commit"]
    store = SolutionStore.open(root / "stores" / "tiny").fingerprint
    critics = [read_manifest(root / f"critic-{seed}", KIND).fingerprint for seed in (0, 1)]
    named = [first["fingerprints"][name] for name in ("store", "critic", "second_critic")]
    assert named == [store, *critics]
    run(config(root), Flags(dry_run=False, fresh=True))  # everything is in the cache now
    assert audited.result == first and len(list(audited.path.parent.glob("audit-tiny*"))) == 2
    assert first["programs"] == 30 and first["localisation"]["programs"] == 24
    assert len(first["grid"]) == 4 * 3 * 2
    assert first["chosen"]["stability"] == pytest.approx(1.0)  # an offset of all values changes no weight
    printed = capsys.readouterr().out
    assert first["verdict"] in printed and "chosen" in printed
    run(config(root), FLAGS)
    again = capsys.readouterr().out
    assert "is finished" in again and printed.endswith(again.split("anew):\n")[1])
    with pytest.raises(ConfigError, match=r"started with another configuration.*weighting\.beta"):
        run(config(root, weighting={"beta": 2.0}), FLAGS)


def test_a_finished_audit_is_not_of_a_critic_that_came_later(root: Path) -> None:
    moved = root / "critic-2"
    alone = config(root, name="later", critic={"path": str(moved)}, second_critic=None, score_missing=True)
    trained(root / "model", head="linear", initial_bias=2.0).save(moved, {})
    run(alone, FLAGS)
    shutil.rmtree(moved)
    trained(root / "model", head="linear", initial_bias=3.0).save(moved, {})
    with pytest.raises(ConfigError, match=r"another store or critic .* use --fresh"):
        run(alone, FLAGS)


def test_a_dry_run_says_what_would_be_scored_and_writes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = Flags(dry_run=True, fresh=True)
    run(config(root, name="dry", score_missing=True), dry)
    printed = capsys.readouterr().out
    assert "audit-dry: 30 programs, " in printed and "the cache lacks are computed here" in printed
    assert not (root / "runs" / "audit-dry").exists()
    data = config(root).data.model_dump()
    with pytest.raises(StorageError, match="nowhere"):
        run(config(root, data=data | {"store": "nowhere"}), dry)
    with pytest.raises(ModelError, match="nowhere"):
        run(config(root, critic={"path": str(root / "nowhere")}), dry)


def test_a_critic_does_not_agree_with_itself(root: Path) -> None:
    with pytest.raises(ConfigError, match="the same weights as critic"):
        run(config(root, second_critic={"path": str(root / "critic-0")}), FLAGS)


def test_values_that_gpus_computed_are_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = EngineSettings.identity
    run(config(root, name="cpu", score_missing=True), FLAGS)
    swapped = {"cpu": "cuda", "cuda": "cpu"}
    monkeypatch.setattr(EngineSettings, "identity", lambda self, device: identity(self, swapped[device]))
    run(config(root, name="cuda"), FLAGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weighting": {"gamma": 0.9}}, "ranking critic .* have neither scale nor offset"),
        ({"weighting": {"min_weight": 4}}, r"min_weight = 4\.0 is more than max_weight"),
        ({"grid": {"clips": [[3, 0.1]]}}, r"clips has \[3\.0, 0\.1\]"),
        ({"critic": {}}, r"critic\.run = None and critic\.path = None; set exactly one"),
        ({"second_critic": {"path": "critic-1"}}, r"second_critic\.path = 'critic-1' is relative"),
    ],
)
def test_what_training_refuses_is_not_audited(root: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(config(root, **changes), FLAGS)
