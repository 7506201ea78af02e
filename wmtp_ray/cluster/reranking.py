"""v̄ of existing samples by a pool of critic actors, which share the score cache with training."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

import ray
import transformers

from actors.answers import answer
from actors.critic import BatchScores
from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.policy import cache_file, critic_directories
from wmtp_ray.cluster.scoring import NAMESPACE, ScorePool, ScorerUse
from wmtp_ray.config.evaluate import RerankConfig
from wmtp_ray.data.prompt import pad_token_id
from wmtp_ray.evaluation.rerank import Answer, batches_of, mean_value, tokenize_answers
from wmtp_ray.evaluation.samples import SampleKey
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_model import read_card

Call = TypeVar("Call")


def find_reranker(config: RerankConfig, root: Path) -> tuple[ScorerUse, transformers.PreTrainedTokenizerBase]:
    """The critic that is to rank, and its tokenizer; `ModelError` or `StorageError` where it is not there."""
    use = ScorerUse(
        "critic", critic_directories(config, root), root / "models", cache_file(root, config), config
    )
    [directory] = use.directories
    tokenizer = load_tokenizer(resolve_model(read_card(directory).config.name, use.models))
    use.fingerprint(tokenizer_fingerprint(tokenizer))
    return use, tokenizer


def critic_values(
    config: RerankConfig, root: Path, run: str, answers: Mapping[SampleKey, Answer]
) -> dict[SampleKey, float]:
    """v̄ of every answer that the critic can read; equal answers are read once. Connects to Ray; `run` is in the
    actors' names.

    Errors: those of `find_reranker`, and `DataError` for a value that is not finite.
    """
    use, tokenizer = find_reranker(config, root)
    distinct = list(dict.fromkeys(answers.values()))
    samples = tokenize_answers(tokenizer, distinct, config.max_length)
    batches = batches_of(samples, config.tokens_per_batch, pad_token_id(tokenizer))
    values: dict[Answer, float] = {}
    with connected(use.resources), closing(ScorePool(f"{run}-{uuid.uuid4().hex[:8]}", use)) as pool:
        actors = [ray.get_actor(name, namespace=NAMESPACE) for name in pool.access.groups[0]]
        calls = ((batch, actors[n % len(actors)].score.remote(batch)) for n, batch in enumerate(batches))
        for batch, call in ahead(calls, config.window * len(actors)):
            scored: BatchScores = answer(call)
            for number, scores in zip(batch.sample_ids.tolist(), scored.samples, strict=True):
                values[distinct[number]] = mean_value(scores)
    return {key: values[one] for key, one in answers.items() if one in values}


def ahead(calls: Iterator[Call], most: int) -> Iterator[Call]:
    """`calls` in their order, each made when at most `most` that were made are not done with."""
    made = deque(islice(calls, most))
    while made:
        yield made.popleft()
        made.extend(islice(calls, 1))
