"""What the numbers depend on: facts, configuration, environment."""

from __future__ import annotations

from collections.abc import Mapping

from wmtp_ray.report.markup import facts, folded, section


def settings(known: Mapping[str, str], config_yaml: str) -> str:
    """Seed, commit, fingerprints and the like, and the resolved configuration."""
    return section("Settings", facts(known), folded("Resolved configuration", config_yaml))
