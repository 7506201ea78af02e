"""Before a weighted run is paid for: what would this critic's weights do? From cached values alone, in minutes.

For a grid of λ, β and clips: the effective sample size, how much of the weights' variance token class and place
explain, the weight of EOS, the agreement with a second critic; and how well low advantages point at known mutations.
One sentence says whether a training run is worth its cost.

    python jobs/audit.py --config configs/quickstart/audit.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/audit.py --config configs/quickstart/audit.yaml
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from wmtp_ray.cluster.cached_advantages import cached_advantages, find_critics
from wmtp_ray.config.audit import AuditJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan, make_plan
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError
from wmtp_ray.evaluation.audited_tokens import audited_tokens
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.storage.runs import RunDirectory, commit
from wmtp_ray.value_weighting.audit import Setting, audit_grid, audit_setting, grid, localisation, verdict

console = Console(highlight=False, markup=False, soft_wrap=True, width=120)


def run(config: AuditJobConfig, flags: Flags) -> None:
    """Audit the critic that `config` names, or show the result of a finished audit."""
    root = config.storage.root
    store = SolutionStore.named(root, config.data.store)
    plan = make_plan(store, config.data.sampling, config.data.plan)
    tokenizer = load_tokenizer(resolve_model(config.tokenizer, root / "models"))
    critic, second = find_critics(config, tokenizer_fingerprint(tokenizer))
    fingerprints = {"store": store.fingerprint, "plan": plan.fingerprint, "critic": critic.fingerprint}
    fingerprints |= {"second_critic": second.fingerprint} if second else {}
    if flags.dry_run:
        return console.print(f"{explained_yaml(config)}\n{_planned(config, plan, fingerprints)}")
    run = RunDirectory.open(root, "audit", config, fresh=flags.fresh)
    if run.result is not None:
        if run.result["fingerprints"] != fingerprints:
            raise ConfigError(
                f"{run.path} is of another store or critic than those there now; use --fresh or another name"
            )
        console.print(f"{run.path.name} is finished (--fresh starts anew):")
        return _show(run, run.result)
    run.begin_attempt()
    console.print(_planned(config, plan, fingerprints))
    batches = [
        MicroBatch(n, planned, load_micro_batch(store, tokenizer, planned))
        for step in plan.steps()
        for n, planned in enumerate(step.micro_batches)
    ]
    tokens = audited_tokens(batches, store, tokenizer)
    advantages = cached_advantages(config, critic, batches)
    other = second and cached_advantages(config, second, batches)
    wanted, w = config.grid, config.weighting
    chosen = Setting(w.lam, w.beta, w.min_weight, w.max_weight)
    eos_one = w.eos_weight == "one"
    settings = grid(wanted.lams, wanted.betas, wanted.clips)
    audits = audit_grid(settings, tokens, advantages, other, eos_one=eos_one)
    own = audit_setting(advantages(w.lam), tokens, chosen, other and other(w.lam), eos_one=eos_one)
    found = localisation(advantages(w.lam), tokens) if tokens.mutated_N.any() else None
    run.finish(
        {
            "commit": commit(),
            "fingerprints": fingerprints,
            "programs": int(tokens.program_N.max()) + 1,
            "tokens": int(tokens.program_N.size),
            "chosen": asdict(own),
            "grid": [asdict(audit) for audit in audits],
            "localisation": found and asdict(found),
            "verdict": verdict(own, found),
        }
    )
    assert run.result is not None
    _show(run, run.result)


def _planned(config: AuditJobConfig, plan: Plan, fingerprints: dict[str, str]) -> str:
    parts = [part for step in plan.steps() for part in step.micro_batches]
    missing = "computed here" if config.score_missing else "an error"
    lines = [
        f"audit-{config.name}: {sum(len(part.rows) for part in parts)} programs, {plan.useful_tokens} tokens in "
        f"{len(parts)} micro-batches; values that the cache lacks are {missing}",
        *plan.sampling_lines(),
        ", ".join(f"{name} {fingerprint[:16]}" for name, fingerprint in fingerprints.items()),
    ]
    return "\n".join(lines)


def _show(run: RunDirectory, result: dict[str, Any]) -> None:
    table = Table(
        "λ", "β", "clip", "effective samples", "at a bound", "class and place explain", "EOS", "stability"
    )
    for number, audit in enumerate((*result["grid"], result["chosen"])):
        s, stability = audit["setting"], audit["stability"]
        clip = f"{s['min_weight']:g} to {s['max_weight']:g}"
        table.add_row(
            f"{s['lam']:g}",
            f"{s['beta']:g}",
            f"{clip} (chosen)" if number == len(result["grid"]) else clip,
            f"{audit['effective_sample_size']:.2f}",
            f"{audit['share_at_bounds']:.0%}",
            f"{audit['explained_by_cell']:.0%}",
            f"{audit['eos_weight']:.2f}",
            "" if stability is None else f"{stability:.2f}",
        )
    console.print(table)
    console.print(f"{result['verdict']}\nwritten to {run.path / 'result.json'}")


if __name__ == "__main__":
    run_command(AuditJobConfig, run, __doc__)
