"""What a store is made by: what changes its content in a prepare's configuration, as its manifest records it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.counts import StoreCounts
from wmtp_ray.data.decontamination import EvaluationTexts
from wmtp_ray.data.prepared import Rules
from wmtp_ray.data.sources import all_problems, build_source, source_identity, source_state
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import LAYOUT
from wmtp_ray.errors import ConfigError
from wmtp_ray.storage.runs import commit

PLAIN_KEYS = ("max_length", "too_long", "languages", "parse_check", "max_bytes", "near_duplicate", "held_out")


def recipe_of(config: PrepareJobConfig) -> dict[str, Any]:
    """The facts of a manifest. Equal recipes of equal files make equal stores, with the same tokenizer."""
    fields = config.model_dump(mode="json")
    recipe = {"source": source_identity(config.source)} | {key: fields[key] for key in PLAIN_KEYS}
    recipe["decontaminate"] = fields["decontaminate"]
    if config.decontaminate:
        recipe["decontaminate"]["against"] = {
            name: source_identity(source) for name, source in config.decontaminate.against.items()
        }
    return recipe


def finished_counts(config: PrepareJobConfig, path: Path, tokenizer_fingerprint: str) -> StoreCounts:
    """What became of the rows of the finished store at `path`; `ConfigError` where it was made by another recipe, or
    with another tokenizer."""
    before = SolutionStore.open(path).manifest.facts
    for key, value in (recipe_of(config) | {"tokenizer_fingerprint": tokenizer_fingerprint}).items():
        if before.get(key) != value:
            raise ConfigError(
                f"store {path} was prepared with {key} = {before.get(key)}, not {value}; "
                "use --fresh or another name"
            )
    return StoreCounts(**before["counts"])


def rules_of(config: PrepareJobConfig) -> Rules:
    """What is kept of a problem. Reads the evaluation sets to keep clear of."""
    evaluation = None
    if config.decontaminate:
        sets = {
            name: all_problems(build_source(source, config.languages))
            for name, source in config.decontaminate.against.items()
        }
        evaluation = EvaluationTexts.of(
            sets, ngram=config.decontaminate.ngram, min_share=config.decontaminate.min_share
        )
    return Rules(
        max_length=config.max_length,
        languages=config.languages,
        max_bytes=config.max_bytes,
        too_long=config.too_long,
        parse_check=config.parse_check,
        near_duplicate=config.near_duplicate,
        evaluation=evaluation,
    )


def resume_key(config: PrepareJobConfig, tokenizer_fingerprint: str) -> str:
    """Equal keys: what an interrupted prepare left can be used. Changes with recipe, tokenizer, files and code."""
    sources = [config.source, *(config.decontaminate.against.values() if config.decontaminate else ())]
    states = [source_state(source) for source in sources]
    content = [recipe_of(config), tokenizer_fingerprint, states, LAYOUT, commit()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
