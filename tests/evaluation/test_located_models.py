"""A run's checkpoint becomes a model that engines load, with its adapters really applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from tests.tiny import save_tiny_model
from wmtp_ray.config import LoRAConfig
from wmtp_ray.config.evaluate import EvaluatedModel
from wmtp_ray.errors import ConfigError, ModelError, StorageError
from wmtp_ray.evaluation.located_models import export_checkpoint, find_checkpoint, locate
from wmtp_ray.models import MTPPolicy
from wmtp_ray.storage import write_manifest
from wmtp_ray.storage.runs import RunDirectory

STEPS = (10, 20, 30)
IDS = torch.tensor([[1, 50, 60, 70, 80]])


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A policy run with three checkpoints of different adapters; after the second its held-out loss was lowest."""
    base = save_tiny_model(tmp_path / "base")
    run = RunDirectory(tmp_path / "runs" / "baseline-x")
    for step in STEPS:
        folder = run.checkpoints / f"step-{step:08d}"
        folder.mkdir(parents=True)
        state = {
            name: p.detach().contiguous() for name, p in policy(base, step).trainable_parameters().items()
        }
        save_file(state, folder / "model.safetensors")
        (folder / "state.json").write_text(json.dumps({"step": step}))
        write_manifest(folder, "checkpoint", step=step)
    losses = {0: 3.0, 10: 2.0, 15: 0.5, 20: 1.0, 30: 1.5}
    records = [{"step": step, "val_loss_unweighted": loss} for step, loss in losses.items()]
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    config: dict[str, Any] = {
        "name": "x",
        "data": {
            "store": "none",
            "sampling": {"solutions": "correct"},
            "plan": {"micro_batches_per_step": 1, "samples_per_micro_batch": 1, "row_tokens": 64},
            "validation": {"solutions": "correct", "split": "valid"},
        },
        "model": {"name": str(base), "num_heads": 2, "dtype": "float32", "lora": {"rank": 4}},
    }
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def policy(base: Path, step: int) -> MTPPolicy:
    """The policy as it was after `step`."""
    made = MTPPolicy.from_pretrained(base, num_heads=2, lora=LoRAConfig(rank=4))
    generator = torch.Generator().manual_seed(step)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    return made


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """[T, V] on some tokens."""
    return model.eval()(IDS).logits[0]


def test_a_checkpoint_is_sampled_with_its_own_adapters(run: RunDirectory) -> None:
    root = run.path.parents[1]
    merged, plain = {}, logits(AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32))
    for step in STEPS:
        found = locate(EvaluatedModel(name="m", run="baseline-x", checkpoint=step), root)
        merged[step] = logits(AutoModelForCausalLM.from_pretrained(found.directory, dtype=torch.float32))
        served = locate(EvaluatedModel(name="m", run="baseline-x", checkpoint=step, as_adapter=True), root)
        assert served.adapter is not None and served.lora_rank == 4 and served.directory == root / "base"
        base = AutoModelForCausalLM.from_pretrained(served.directory, dtype=torch.float32)
        adapted = logits(PeftModel.from_pretrained(base, served.adapter))
        torch.testing.assert_close(adapted, merged[step], atol=1e-4, rtol=1e-4)
        assert (merged[step] - plain).abs().max() > 0.01, "the adapter changed nothing"
    assert (merged[10] - merged[30]).abs().max() > 0.01


def test_best_is_by_held_out_loss_unless_training_declared_it(run: RunDirectory) -> None:
    names = {which: find_checkpoint(run, which).name for which in ("best", "last", 10)}
    assert names == {"best": "step-00000020", "last": "step-00000030", 10: "step-00000010"}
    newest = run.checkpoints / "step-00000030"
    (newest / "state.json").write_text(json.dumps({"step": 30, "best": {"step": 10, "value": 0.1}}))
    assert find_checkpoint(run, "best").name == "step-00000010"
    run.metrics.write_text("")
    (newest / "state.json").write_text(json.dumps({"step": 30}))
    with pytest.raises(StorageError, match=r"set validation\.every_steps"):
        find_checkpoint(run, "best")
    with pytest.raises(StorageError, match="no checkpoint of step 11; there are those of 10, 20, 30"):
        find_checkpoint(run, 11)


def test_an_export_is_made_once_and_again_if_its_writer_was_killed(run: RunDirectory) -> None:
    root = run.path.parents[1]
    target = export_checkpoint(run, "last", root)
    manifest = target / "manifest.json"
    made = manifest.stat().st_mtime_ns
    assert export_checkpoint(run, "last", root) == target and manifest.stat().st_mtime_ns == made
    manifest.unlink()
    export_checkpoint(run, "last", root)
    assert manifest.stat().st_mtime_ns > made


def test_what_is_no_checkpoint_of_a_policy_is_refused(run: RunDirectory) -> None:
    root = run.path.parents[1]
    with pytest.raises(StorageError, match="has no checkpoint"):
        locate(EvaluatedModel(name="m", run="baseline-y", checkpoint="last"), root)
    content = yaml.safe_load((run.path / "config.yaml").read_text())
    (run.path / "config.yaml").write_text(yaml.safe_dump({**content, "model": {"name": "x", "head": "mlp"}}))
    with pytest.raises(ConfigError, match="baseline-x is no run of a policy"):
        export_checkpoint(run, "last", root)
    with pytest.raises(ModelError, match="is no PEFT adapter"):
        locate(EvaluatedModel(name="m", model=str(root / "base"), adapter=root / "nowhere"), root)
