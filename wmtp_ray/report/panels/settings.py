"""What the numbers depend on: facts, configuration, environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from wmtp_ray.report.markup import facts, folded, section


def settings(known: Mapping[str, str], config_yaml: str, result: Mapping[str, Any] | None = None) -> str:
    """Seed, commit, fingerprints and the like; to be unfolded: the resolved configuration and a run's result file."""
    return section(
        "Settings",
        facts(known),
        folded("Resolved configuration", config_yaml),
        folded("Result", json.dumps(result, indent=1)) if result else "",
    )


def environment_facts(attempts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the last attempt of a run ran on, for `settings`."""
    if not attempts:
        return {}
    last = attempts[-1]
    libraries = ", ".join(f"{name} {version}" for name, version in last.get("libraries", {}).items())
    known = {
        "code": last.get("commit"),
        "started": ", ".join(attempt["started"] for attempt in attempts),
        "Python": last.get("python"),
        "libraries": libraries,
        "machine": f"{last.get('machine')}, {last.get('cpus')} CPUs",
    }
    return {name: str(value) for name, value in known.items() if value}
