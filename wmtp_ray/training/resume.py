"""Whether training may go on from a checkpoint, and where in the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from wmtp_ray.data.plan import COLUMNS, Plan

KEYS_BEHIND = {
    "plan": ("data",),
    "store": ("data.store",),
    "model": ("model.name",),
    "critic": ("critic.run", "critic.path"),
    "reference": ("reference.run", "reference.path"),
}
"""The configuration keys behind each fingerprint of a checkpoint."""
SCORERS = ("critic", "reference")
"""Those of frozen models, whose scores the statistics of a weighting are of."""


def may_differ(resume_allow: Iterable[str]) -> frozenset[str]:
    """The fingerprints that may differ where the user allows these configuration keys to.

    Example: `["data.plan.max_steps"]` -> {plan}; `["data"]` -> {plan, store}; `["critic"]` -> {critic}.
    """
    allowed = tuple(resume_allow)
    return frozenset(
        what
        for what, keys in KEYS_BEHIND.items()
        for key in keys
        if any(_within(key, a) or (what == "plan" and _within(a, key)) for a in allowed)
    )


def trained_steps(plan: Plan, steps: int) -> str:
    """SHA-256 (hex) over the first `steps` steps of a plan: equal where two plans begin alike."""
    end = int(np.searchsorted(plan.columns["step"], steps))
    digest = hashlib.sha256()
    for name, dtype in COLUMNS.items():
        digest.update(plan.columns[name][:end].astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")
