"""A client of the scoring service: keeps connections, retries what may be retried, refuses to wait for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import numpy as np
from pydantic import BaseModel, ValidationError

from wmtp_ray.client.base64_arrays import decode_array, encode_array
from wmtp_ray.client.wire import (
    PROBLEM,
    TIMED_OUT,
    CriticIdentity,
    Item,
    ItemScore,
    Options,
    PackedSample,
    ProblemDocument,
    RankAnswer,
    RankRequest,
    ScoreAnswer,
    ScoreRequest,
    ValuesAnswer,
    ValuesRequest,
)
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.segments import segments_of
from wmtp_ray.errors import ConfigError, InfraError, WMTPError

AnswerT = TypeVar("AnswerT", bound=BaseModel)
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Scoring changes nothing, so that any answer of which another try may be better is tried again; the service's own 504,
`TIMED_OUT`, once, since a stall may have been the reason."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0


class ServiceRefusal(WMTPError, ValueError):
    """The service will not answer this request, however often it is asked. `problem` says why, where it does."""

    problem: ProblemDocument | None = None


class _Info(BaseModel):
    """What the client reads of `/v1/info`."""

    critic: CriticIdentity


class ScoreClient:
    """Asks the service at `url`. May be shared by threads; close it, or use it in a `with`.

    `patience` bounds, in seconds, how long one request is tried again while the service is away or busy; `timeout` one
    try. Waits grow from 0.1 s to 5 s with jitter, and are never shorter than the service's `Retry-After`.

    Errors of all methods: `ServiceRefusal` for a request that it cannot score (the message has its reason),
    `InfraError` when patience ends, `ConfigError` for a `url` or `token` with which no request can be made.

    Example: `ScoreClient("http://localhost:8000").score([InstructionItem(instruction="Add.", response="a + b")])`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 70.0,
        patience: float = 300.0,
        connections: int = 16,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        token = (token or "").strip()
        if not (token.isascii() and token.isprintable()):
            raise ConfigError(
                "the bearer token has characters that no HTTP header may hold (a line break, say); give one line of "
                "ASCII"
            )
        self.url = url.rstrip("/")
        self._patience, self._connections = patience, connections
        self._jitter = random.Random()
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=httpx.Timeout(timeout, connect=10.0, pool=None),
                limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise _unaskable(self.url, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def critic(self) -> CriticIdentity:
        """Which critic serves just now. A rolled-in one has another fingerprint: every answer says which it was."""
        return self._parsed("/v1/info", self._ask("GET", "/v1/info"), _Info).critic

    def score(self, items: Sequence[Item], options: Options | None = None) -> ScoreAnswer:
        """Values, advantages and weights of items, in one request: statistics are over all of them."""
        request = ScoreRequest(items=list(items), options=options or Options())
        return self._post("/v1/score", request, ScoreAnswer)

    def score_each(
        self, items: Iterable[Item], options: Options, items_per_request: int = 16
    ) -> Iterator[ItemScore]:
        """Any number of items, in their order, several requests at a time.

        `ConfigError` for options whose result would depend on how items are cut into requests; with `normalize` unsaid
        it might, by the service's own default.
        """
        if options.statistics == "batch" or options.normalize != "none":
            raise ConfigError(
                f"statistics {options.statistics!r} and normalize {options.normalize!r}: both must not depend on the "
                "request; use statistics 'given' or 'ema' and normalize 'none', or score() with all items"
            )
        remaining = iter(items)
        chunks = iter(lambda: list(islice(remaining, items_per_request)), [])
        with ThreadPoolExecutor(self._connections) as threads:
            while ahead := list(islice(chunks, self._connections)):
                for answer in threads.map(lambda chunk: self.score(chunk, options), ahead):
                    yield from answer.items

    def rank(
        self, instruction: str, responses: Sequence[str], input: str = "", truncate: bool = False
    ) -> RankAnswer:
        """Responses to one instruction, best first."""
        request = RankRequest(
            instruction=instruction, input=input, responses=list(responses), truncate=truncate
        )
        return self._post("/v1/rank", request, RankAnswer)

    def values(self, rows: Sequence[Sequence[tuple[np.ndarray, int]]]) -> list[np.ndarray]:
        """Raw values of a packed micro-batch, given as rows of samples (token ids, response start).

        Returns one float32 vector per sample, row by row: the value at its last prompt token (absent where the
        response starts the sequence), then one per response token, as `wmtp_ray.models.scorer` defines them. The
        service computes exactly this batch and nothing beside it.
        """
        return self._values(rows)[0]

    def score_batch(self, batch: PackedBatch, fingerprint: str | None = None) -> list[np.ndarray]:
        """`values` of a packed batch, in the order of its samples: what `models.scorer.score` gives.

        With `fingerprint`, `InfraError` where another critic answered (a new one was rolled in).
        """
        rows: list[list[tuple[np.ndarray, int]]] = [[] for _ in range(batch.shape[0])]
        for segment in segments_of(batch):
            ids = batch.input_ids[segment.row, segment.start : segment.end].numpy()
            rows[segment.row].append((ids, segment.response_start - segment.start))
        values, critic = self._values(rows)
        if fingerprint is not None and critic.fingerprint != fingerprint:
            raise InfraError(
                f"{self.url} now serves critic {critic.fingerprint[:12]}, not {fingerprint[:12]} with which this run "
                "began; serve that one again, or start a fresh run"
            )
        return values

    def _values(
        self, rows: Sequence[Sequence[tuple[np.ndarray, int]]]
    ) -> tuple[list[np.ndarray], CriticIdentity]:
        packed = [
            [PackedSample(token_ids=encode_array(ids, "<i4"), response_start=start) for ids, start in row]
            for row in rows
        ]
        answer = self._post("/v1/values", ValuesRequest(rows=packed), ValuesAnswer)
        return [decode_array(text, "<f4") for text in answer.values], answer.critic

    def _post(self, path: str, request: BaseModel, answer: type[AnswerT]) -> AnswerT:
        body = request.model_dump_json(exclude_none=True).encode()
        response = self._ask("POST", path, content=body, headers={"Content-Type": "application/json"})
        return self._parsed(path, response, answer)

    def _parsed(self, path: str, response: httpx.Response, answer: type[AnswerT]) -> AnswerT:
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise ServiceRefusal(
                f"{self.url}{path} answered something else than this client understands ({error.error_count()} "
                "faults); use the same version of wmtp_ray on both sides"
            ) from error

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience
        wait, timed_out = FIRST_WAIT, False
        while True:
            least = 0.0
            try:
                response = self._http.request(method, path, **request)
            except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
                raise _unaskable(self.url, error) from error
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return response
                problem = _problem_of(response)
                late = problem.type == PROBLEM + TIMED_OUT
                if response.status_code not in RETRIED or (late and timed_out):
                    raise _refusal(self.url + path, problem)
                timed_out = timed_out or late
                least = retry_after(response.headers.get("Retry-After"))
                reason = f"{response.status_code} {problem.detail}"
            pause = max(least, 0.0) + self._jitter.uniform(wait / 2, wait)
            if time.monotonic() + pause > deadline:
                raise InfraError(
                    f"{self.url}{path} gave no answer within {self._patience:g} s; last: {reason}; see that the "
                    "service runs, or raise patience"
                )
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)


def retry_after(header: str | None) -> float:
    """Seconds to wait: of a number or a date (RFC 9110); 0 without one, or where it is neither."""
    if header is None:
        return 0.0
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


def _unaskable(url: str, error: Exception) -> ConfigError:
    return ConfigError(f"url {url!r} cannot be asked ({error}); give the service's, as http://localhost:8000")


def _problem_of(response: httpx.Response) -> ProblemDocument:
    try:
        return ProblemDocument.model_validate_json(response.content)
    except ValidationError:
        return ProblemDocument(
            type="about:blank",
            title=response.reason_phrase,
            status=response.status_code,
            detail=response.reason_phrase,
        )


def _refusal(place: str, problem: ProblemDocument) -> ServiceRefusal:
    refusal = ServiceRefusal(f"{place} refused ({problem.status}): {problem.detail}")
    refusal.problem = problem
    return refusal
