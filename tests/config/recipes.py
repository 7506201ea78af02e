"""The smallest valid configuration files of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def policy_recipe(**sections: Any) -> dict[str, Any]:
    """A policy job; `sections` replace whole ones."""
    recipe: dict[str, Any] = {
        "name": "mine",
        "data": {
            "store": "mini",
            "sampling": {"solutions": "correct", "split": "train"},
            "plan": {"micro_batches_per_step": 2, "samples_per_micro_batch": 4},
            "validation": {"solutions": "correct", "split": "valid"},
        },
        "model": {"name": "smollm2-135m", "num_heads": 2},
        "weighting": {"method": "critic", "beta": 2.0},
        "critic": {"run": "mine"},
    }
    return recipe | sections


def critic_recipe(**sections: Any) -> dict[str, Any]:
    """A critic job; `sections` replace whole ones."""
    recipe = policy_recipe()
    sampling = {
        name: recipe["data"][name] | {"solutions": "length_balanced_pairs"}
        for name in ("sampling", "validation")
    }
    return {
        "name": "mine",
        "data": recipe["data"] | sampling,
        "model": {"name": "smollm2-135m"},
    } | sections


def write_recipe(directory: Path, recipe: dict[str, Any]) -> Path:
    """The recipe as a file."""
    path = directory / "job.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path
