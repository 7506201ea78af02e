"""Before a weighted run is paid for: what would this critic's weights do? From cached values alone, in minutes.

For a grid of λ, β and clips: the effective sample size, how much of the weights' variance token class and place
explain, the weight of EOS, the agreement with a second critic; and how well low advantages point at known mutations.
One sentence says whether a training run is worth its cost.

    python jobs/audit.py --config configs/quickstart/audit.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/audit.py --config configs/quickstart/audit.yaml
"""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from wmtp_ray.cluster.cached_advantages import cached_advantages, refuse_the_same_critic
from wmtp_ray.config.audit import AuditJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import make_plan
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.evaluation.audited_tokens import audited_tokens
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.storage.manifest import write_bytes_atomically
from wmtp_ray.storage.runs import run_path
from wmtp_ray.value_weighting.audit import (
    Setting,
    SettingAudit,
    audit_grid,
    audit_setting,
    grid,
    localisation,
    verdict,
)

console = Console(highlight=False, markup=False, soft_wrap=True, width=120)


def run(config: AuditJobConfig, flags: Flags) -> None:
    """Audit the critic that `config` names; print the table and the sentence, and write both to the run directory."""
    if flags.dry_run:
        return console.print(explained_yaml(config))
    refuse_the_same_critic(config)
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
    advantages = cached_advantages(config, config.critic, batches, tokenizer)
    second = config.second_critic and cached_advantages(config, config.second_critic, batches, tokenizer)
    wanted, w = config.grid, config.weighting
    chosen = Setting(w.lam, w.beta, w.min_weight, w.max_weight)
    eos_one = w.eos_weight == "one"
    settings = grid(wanted.lams, wanted.betas, wanted.clips)
    audits = audit_grid(settings, tokens, advantages, second or None, eos_one=eos_one)
    own = audit_setting(advantages(w.lam), tokens, chosen, second(w.lam) if second else None, eos_one=eos_one)
    found = localisation(advantages(w.lam), tokens) if tokens.mutated_N.any() else None
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
