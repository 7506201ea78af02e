"""Amounts of Ray's logical resources by name (`CPU`, `GPU`, and those that a cluster's owner made up)."""

from __future__ import annotations

from collections.abc import Mapping

Resources = Mapping[str, float]


def total(*parts: Resources) -> dict[str, float]:
    """What all need at the same time."""
    return {name: sum(part.get(name, 0.0) for part in parts) for name in _names(parts)}


def largest(*parts: Resources) -> dict[str, float]:
    """What the hungriest of each needs, one after another."""
    return {name: max(part.get(name, 0.0) for part in parts) for name in _names(parts)}


def times(count: float, each: Resources) -> dict[str, float]:
    """What `count` of them need."""
    return {name: count * amount for name, amount in each.items()}


def rooms(there: Resources, each: Resources) -> int:
    """How many of them fit into what is there, as if it were one node."""
    found = [there.get(name, 0.0) / amount for name, amount in each.items() if amount]
    return int(min(found, default=1))


def _names(parts: tuple[Resources, ...]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part))
