"""What the operations compute. Tokenising, weighing and writing run on threads, the model on the batcher's: the event
loop only waits. A new critic takes over between two requests; the old one ends when its last request is answered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from serve.batcher import QueueFull, TokenBatcher
from serve.critic import EMAStatistics, ServedCritic, read_ema
from serve.measures import Measures
from serve.problems import Problem
from serve.samples import Prepared, Preparer
from serve.tokens import BearerTokens
from serve.weigh import Weighed, default_options, resolve, weigh
from wmtp_ray.client.base64_arrays import encode_array
from wmtp_ray.client.wire import (
    ItemScore,
    Options,
    RankAnswer,
    RankedResponse,
    RankRequest,
    ScoreAnswer,
    ScoreRequest,
    TokenScore,
    ValuesAnswer,
    ValuesRequest,
)
from wmtp_ray.config.serve import ServeConfig
from wmtp_ray.config.weighting import CriticWeighting
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.errors import ConfigError, DataError, InfraError

P = ParamSpec("P")
T = TypeVar("T")
_POLL_SECONDS = 0.05


@dataclass(eq=False)
class Serving:
    """One critic at work: all that a request needs, so that none sees half of a change."""

    config: ServeConfig
    critic: ServedCritic
    weighting: CriticWeighting
    options: Options
    ema: EMAStatistics | None
    preparer: Preparer
    batcher: TokenBatcher
    requests: int = field(default=0)

    async def require_quick(self, rows: list[list[TokenizedSample]]) -> None:
        """503 for a packed batch whose one forward would take so long that the replica passed for one that hangs: by a
        speed measured for it, lest the estimate of a bad moment refuse for ever."""
        if self.batcher.seconds_for(rows) > self.config.forward_seconds:
            await self.batcher.score_packed(self.critic.probe)
        seconds = self.batcher.seconds_for(rows)
        if seconds > self.config.forward_seconds:
            raise Problem(
                503,
                "too-slow",
                f"one forward pass over these {len(rows)} rows would take about {seconds:.0f} s here just now and may "
                f"take {self.config.forward_seconds:g} s; send smaller batches, or the same later",
                retry_after=1,
            )


class ScoringService:
    """The operations of the API, each from a checked request to the bytes of its answer."""

    def __init__(self, measures: Measures) -> None:
        self.measures = measures
        self.tokens = BearerTokens.none()
        self.config = ServeConfig()
        self._serving: Serving | None = None
        self._threads = ThreadPoolExecutor(2, "prepare")
        self._changing = asyncio.Lock()

    async def configure(self, config: ServeConfig) -> None:
        """Load what `config` names beside what serves now, then swap; where that fails, the old one stays."""
        async with self._changing:
            tokens = BearerTokens.read(config.tokens)
            before = self._serving
            serving = await self._on_thread(_load, config, self.measures)
            self.config, self.tokens, self._serving = config, tokens, serving
            if before is not None:
                await _drained(before)

    async def close(self) -> None:
        """Answer what is open, then end."""
        serving, self._serving = self._serving, None
        if serving is not None:
            await _drained(serving)
        self._threads.shutdown()

    @property
    def serving(self) -> Serving:
        """What serves just now; 503 while there is nothing."""
        if self._serving is None:
            raise Problem(503, "not-ready", "no critic is loaded yet", retry_after=2)
        return self._serving

    def check(self) -> None:
        """`InfraError` where the model's thread has died or hangs."""
        serving = self._serving
        if serving is None:
            return
        if not serving.batcher.alive:
            raise InfraError("the thread of the model has died")
        if (seconds := serving.batcher.forward_seconds()) > serving.config.forward_seconds:
            raise InfraError(f"a forward pass has been running for {seconds:.0f} s")

    async def score(self, request: ScoreRequest) -> bytes:
        """`POST /v1/score`."""
        async with self._entered() as serving:
            weighting = resolve(request.options, serving.weighting, serving.critic)
            prepared = await self._on_thread(serving.preparer.items, request.items, request.options.truncate)
            scores = await self._values(serving, prepared)
            return await self._on_thread(_score_answer, serving, request, weighting, prepared, scores)

    async def rank(self, request: RankRequest) -> bytes:
        """`POST /v1/rank`."""
        async with self._entered() as serving:
            prepared = await self._on_thread(
                serving.preparer.responses,
                request.instruction,
                request.input,
                request.responses,
                request.truncate,
            )
            scores = await self._values(serving, prepared)
            return await self._on_thread(_rank_answer, serving, prepared, scores)

    async def values(self, request: ValuesRequest) -> bytes:
        """`POST /v1/values`."""
        async with self._entered() as serving:
            rows = await self._on_thread(serving.preparer.rows, request)
            with _refusals():
                await serving.require_quick(rows)
                scores = await serving.batcher.score_packed(rows)
            values = [encode_array(values, "<f4") for values in scores]
            return ValuesAnswer(critic=serving.critic.identity, values=values).model_dump_json().encode()

    async def _values(self, serving: Serving, prepared: list[Prepared]) -> list[np.ndarray]:
        with _refusals():
            return await serving.batcher.score([item.sample for item in prepared])

    @asynccontextmanager
    async def _entered(self) -> AsyncIterator[Serving]:
        serving = self.serving
        with _refusals():
            serving.batcher.require_room(0)
        serving.requests += 1
        try:
            yield serving
        finally:
            serving.requests -= 1

    async def _on_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(call, *args, **kwargs))


class _refusals:
    """The batcher's errors as refusals."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, QueueFull):
            raise Problem(503, "queue-full", str(error), retry_after=error.retry_after) from None
        if isinstance(error, InfraError):
            raise Problem(503, "not-ready", str(error), retry_after=1) from None
        if isinstance(error, DataError):
            raise Problem(422, "not-finite", str(error)) from None


def _load(config: ServeConfig, measures: Measures) -> Serving:
    ema = read_ema(config.critic, config.storage.root)
    torch.set_num_threads(config.critic.threads)
    critic = ServedCritic.load(config.critic, config.storage.root)
    try:
        if ema is not None:
            ema = replace(ema, weighting=resolve(Options(), ema.weighting, critic))
        weighting = resolve(
            Options(), config.weighting or (ema.weighting if ema else CriticWeighting()), critic
        )
        options = default_options(weighting)
    except Problem as problem:
        raise ConfigError(f"weighting: {problem}") from None
    batcher = TokenBatcher(
        critic.score_rows,
        batch_tokens=config.batch_tokens,
        queue_tokens=config.limits.queue_tokens,
        queue_seconds=config.limits.queue_seconds,
        tokens_per_second=critic.tokens_per_second,
        on_start=partial(torch.set_num_threads, config.critic.threads),
        on_forward=measures.forward,
    )
    return Serving(config, critic, weighting, options, ema, Preparer(critic, config.limits), batcher)


async def _drained(serving: Serving) -> None:
    while serving.requests:
        await asyncio.sleep(_POLL_SECONDS)
    serving.batcher.close()


def _score_answer(
    serving: Serving,
    request: ScoreRequest,
    weighting: CriticWeighting,
    prepared: list[Prepared],
    scores: list[np.ndarray],
) -> bytes:
    samples = [item.sample for item in prepared]
    weighed = weigh(samples, scores, weighting, request.options, serving.ema, serving.critic)
    items = [_item_score(serving, item, scores[i], weighed, i) for i, item in enumerate(prepared)]
    answer = ScoreAnswer(critic=serving.critic.identity, statistics=weighed.statistics, items=items)
    return answer.model_dump_json().encode()


def _item_score(
    serving: Serving, item: Prepared, scores: np.ndarray, weighed: Weighed, number: int
) -> ItemScore:
    sample, pieces = item.sample, item.pieces(serving.critic)
    values = weighed.values[number]
    columns = zip(
        sample.token_ids[sample.response_start :].tolist(),
        pieces.texts,
        pieces.spans,
        values.tolist(),
        weighed.advantages[number].tolist(),
        weighed.weights[number].tolist(),
        strict=True,
    )
    tokens = [
        TokenScore.model_construct(
            token_id=token_id,
            piece=piece,
            start=start,
            end=end,
            value=value,
            advantage=advantage,
            weight=weight,
        )
        for token_id, piece, (start, end), value, advantage, weight in columns
    ]
    return ItemScore.model_construct(
        response=pieces.text,
        mean_value=float(values.mean(dtype=np.float64)),
        prompt_value=float(scores[0]) if sample.response_start else None,
        truncated=sample.truncated,
        prompt_tokens=sample.response_start,
        response_tokens=sample.num_targets,
        tokens=tokens,
    )


def _rank_answer(serving: Serving, prepared: list[Prepared], scores: list[np.ndarray]) -> bytes:
    means = [
        float(values[-item.sample.num_targets :].mean(dtype=np.float64))
        for item, values in zip(prepared, scores, strict=True)
    ]
    ranking = [
        RankedResponse(
            index=i,
            mean_value=means[i],
            truncated=prepared[i].sample.truncated,
            response_tokens=prepared[i].sample.num_targets,
        )
        for i in sorted(range(len(means)), key=lambda i: (-means[i], i))
    ]
    answer = RankAnswer(
        critic=serving.critic.identity,
        ranking=ranking,
        probabilities=[[_logistic(mine - other) for other in means] for mine in means]
        if serving.critic.ranks
        else None,
    )
    return answer.model_dump_json().encode()


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
