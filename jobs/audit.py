"""Before a weighted run is paid for: what would this critic's weights do? From cached values alone, in minutes.

For a grid of λ, β and clips: the effective sample size, how much of the weights' variance token class and place
explain, the weight of EOS, the agreement with a second critic; and how well −δ points at known mutations. One sentence
says whether a training run is worth its cost.

    python jobs/audit.py --config configs/quickstart/audit.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/audit.py --config configs/quickstart/audit.yaml
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from actors.cache import ScoreCache
from wmtp_ray.cluster.policy import cache_file, critic_directories, critic_objective
from wmtp_ray.cluster.scoring import ScorerUse
from wmtp_ray.config import dump_yaml
from wmtp_ray.config.audit import AuditJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.weighting import CriticPoolConfig, CriticWeighting
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import make_plan
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.data.segments import segments_of
from wmtp_ray.data.store import Row, SolutionStore
from wmtp_ray.errors import ConfigError
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.score_engine import load_engine
from wmtp_ray.models.scorer import join_values, score_keys
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.storage.manifest import write_bytes_atomically
from wmtp_ray.storage.runs import run_path
from wmtp_ray.value_weighting.audit import (
    AuditedTokens,
    Setting,
    SettingAudit,
    audit_grid,
    audit_setting,
    grid,
    localisation,
    verdict,
)
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage
from wmtp_ray.value_weighting.token_classes import mutated_tokens, token_cells

console = Console(highlight=False, markup=False, soft_wrap=True)
CPU = torch.device("cpu")


def run(config: AuditJobConfig, flags: Flags) -> None:
    """Audit the critic that `config` names; print the table and the sentence, and write both to the run directory."""
    if flags.dry_run:
        return console.print(dump_yaml(config))
    root = config.storage.root
    store = SolutionStore.named(root, config.data.store)
    tokenizer = load_tokenizer(resolve_model(config.tokenizer, root / "models"))
    plan = make_plan(store, config.data.sampling, config.data.plan)
    batches = [
        MicroBatch(n, planned, load_micro_batch(store, tokenizer, planned))
        for step in plan.steps()
        for n, planned in enumerate(step.micro_batches)
    ]
    tokens = audited_tokens(batches, store, tokenizer)
    advantages = _advantages(config, config.critic, batches, tokenizer)
    second = config.second_critic and _advantages(config, config.second_critic, batches, tokenizer)
    wanted, w = config.grid, config.weighting
    chosen = Setting(w.lam, w.beta, w.min_weight, w.max_weight)
    audits = audit_grid(grid(wanted.lams, wanted.betas, wanted.clips), tokens, advantages, second or None)
    own = audit_setting(advantages(w.lam), tokens, chosen, second(w.lam) if second else None)
    found = localisation(advantages(0.0), tokens) if tokens.mutated_N.any() else None
    sentence = verdict(own, found)
    console.print(_table(audits, own))
    console.print(sentence)
    result = {
        "programs": int(tokens.program_N.max()) + 1,
        "tokens": int(tokens.program_N.size),
        "chosen": asdict(own),
        "grid": [asdict(audit) for audit in audits],
        "localisation": found and asdict(found),
        "verdict": sentence,
    }
    path = run_path(root, "audit", config.name) / "audit.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, json.dumps(result, indent=1).encode())
    console.print(f"written to {path}")


def audited_tokens(
    batches: list[MicroBatch], store: SolutionStore, tokenizer: PreTrainedTokenizerBase
) -> AuditedTokens:
    """Class, place, EOS and known mutations of every response token, in the order of micro-batches and samples."""
    eos = eos_id(tokenizer)
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    rows: Iterator[Row] = (row for m in batches for row in store.read(m.batch.sample_ids.numpy()))
    number = 0
    for m in batches:
        cells_RT = token_cells(tokenizer, m.batch, eos)
        for segment in segments_of(m.batch):
            ids = m.batch.input_ids[segment.row, segment.response].numpy()
            mutated = np.zeros(ids.size, dtype=bool)
            if (span := next(rows).mutated_span) is not None:
                mutated = mutated_tokens(tokenizer, ids.tolist(), span, eos)
            parts = (
                np.full(ids.size, number),
                cells_RT[segment.row, segment.response].numpy(),
                np.arange(ids.size) / max(ids.size - 1, 1),
                ids == eos,
                mutated,
            )
            for column, part in zip(columns, parts, strict=True):
                column.append(part)
            number += 1
    return AuditedTokens(*(np.concatenate(column) for column in columns))


def _advantages(
    config: AuditJobConfig,
    critic: CriticPoolConfig,
    batches: list[MicroBatch],
    tokenizer: PreTrainedTokenizerBase,
) -> Callable[[float], np.ndarray]:
    """A critic's advantages [N] as a function of λ; its values are looked up once."""
    root = config.storage.root
    directories = critic_directories(critic, root)
    use = ScorerUse("critic", directories, root / "models", cache_file(root, critic), critic)
    use.fingerprint(tokenizer_fingerprint(tokenizer))
    scored = _with_values(use, batches, config.score_missing)
    objective = critic_objective(directories[0])

    def of(lam: float) -> np.ndarray:
        weighting: CriticWeighting = config.weighting.model_copy(update={"lam": lam})
        method = CriticAdvantage(weighting, objective)
        parts = []
        for m in scored:
            signal_RT = method.signal(m)
            parts += [signal_RT[s.row, s.response].numpy() for s in segments_of(m.batch)]
        return np.concatenate(parts).astype(np.float64)

    return of


def _with_values(use: ScorerUse, batches: list[MicroBatch], score_missing: bool) -> list[MicroBatch]:
    """The micro-batches with the critic's values from the cache, or computed here as the pool would."""
    if len(use.directories) > 1:
        raise ConfigError("critic.folds: audit the critic of one fold, by critic.path")
    [settings] = use.engines()
    identity, cache = settings.identity("cpu"), ScoreCache(str(use.cache_file), use.pool.cache_bytes)
    stored = [cache.get(score_keys(m.batch, identity)) for m in batches]
    missing = sum(None in scores for scores in stored)
    if missing and not score_missing:
        raise ConfigError(
            f"the score cache {use.cache_file} lacks values of {missing} of {len(batches)} micro-batches; train with "
            "this critic and data first, or set score_missing=true"
        )
    if missing:
        torch.set_num_threads(use.pool.threads_per_actor)
        engine = load_engine(settings, CPU, use.pool.threads_per_actor)
        for i, m in enumerate(batches):
            if None in stored[i]:
                fresh = [scores.tobytes() for scores in engine.score(m.batch)]
                stored[i] = list(cache.put(score_keys(m.batch, identity), fresh))
    return [
        replace(
            m,
            values_RT=join_values(
                [np.frombuffer(s, dtype=np.float32) for s in scores if s is not None], m.batch
            ),
        )
        for m, scores in zip(batches, stored, strict=True)
    ]


def _table(audits: list[SettingAudit], chosen: SettingAudit) -> Table:
    table = Table(
        "λ", "β", "clip", "effective samples", "at a bound", "class and place explain", "EOS", "stability"
    )
    for audit in (*audits, chosen):
        s = audit.setting
        table.add_row(
            f"{s.lam:g}",
            f"{s.beta:g}",
            f"{s.min_weight:g} to {s.max_weight:g}" + (" (chosen)" if audit is chosen else ""),
            f"{audit.effective_sample_size:.2f}",
            f"{audit.share_at_bounds:.0%}",
            f"{audit.explained_by_cell:.0%}",
            f"{audit.eos_weight:.2f}",
            "" if audit.stability is None else f"{audit.stability:.2f}",
        )
    return table


if __name__ == "__main__":
    run_command(AuditJobConfig, run, __doc__)
