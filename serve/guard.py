"""Before an operation sees a request: who asks, from where, how much, and for how long.

    host and token -> open requests of this client -> in time: (content type -> size and time of the body -> operation)

The body is taken in whole here, bounded in bytes and seconds, so neither a large nor a slow one costs more.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

from fastapi.applications import ASGIApp, Receive, Scope, Send

from serve.problems import Problem
from serve.service import ScoringService
from wmtp_ray.client.wire import TIMED_OUT

Message = MutableMapping[str, Any]
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
ANONYMOUS = "anonymous"
OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
OPEN_FOLDER = "/page/"
MEASURED = ("/v1/score", "/v1/rank", "/v1/values", "/v1/info")


class Guard:
    """ASGI middleware in front of the API."""

    def __init__(self, app: ASGIApp, service: ScoringService) -> None:
        self._app, self._service = app, service
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Below a route prefix; taken now, since routing changes the scope.
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        started = time.perf_counter()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(path, scope, receive, watched)
        except Problem as problem:
            if status is not None:
                raise
            await problem.response()(scope, receive, watched)
        finally:
            if path in MEASURED:
                self._service.measures.answer(path, status or 500, time.perf_counter() - started)

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        client = self._admit(path, scope)
        if is_open(path):  # probes and the page: never crowded out
            await self._app(scope, receive, send)
            return
        limits = self._service.config.limits
        if self._open[client] >= limits.requests_per_client:
            raise Problem(
                429,
                "too-many-requests",
                f"{self._open[client]} requests of this client are open already; await some",
                retry_after=1,
            )
        self._open[client] += 1
        try:
            await self._in_time(scope, receive, send)
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    def _admit(self, path: str, scope: Scope) -> str:
        """The client's name; 401 without a valid token, 403 from elsewhere where there are no tokens."""
        headers = _headers(scope)
        if not self._service.tokens:
            # Also keeps web pages out that have their own name resolve to this machine.
            name = _host_name(headers.get(b"host", b"").decode("latin-1"))
            if name not in (*LOOPBACK_NAMES, *map(str.lower, self._service.config.public_host)):
                raise Problem(
                    403,
                    "not-local",
                    "this service has no bearer tokens, so it answers under this machine's own name only; set "
                    "tokens.file or WMTP_SERVE_TOKENS, or name the host in public_host",
                )
            return ANONYMOUS
        if is_open(path):
            return ANONYMOUS
        client = self._service.tokens.client_of(headers.get(b"authorization", b""))
        if client is None:
            raise Problem(401, "not-authorised", "give a valid token: `Authorization: Bearer TOKEN`")
        return client

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        """A `receive` that gives the body again, all of it."""
        headers, limits = _headers(scope), self._service.config.limits
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise Problem(415, "not-json", "send the request as Content-Type: application/json")
        too_large = Problem(
            413,
            "body-too-large",
            f"the body has more than the {limits.body_bytes} bytes allowed; send fewer items",
        )
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limits.body_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(400, "disconnected", "the client left before the body was there")
                    body += message.get("body", b"")
                    if len(body) > limits.body_bytes:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Problem(
                408, "slow-body", f"the body did not arrive within {limits.body_seconds:g} s", retry_after=1
            ) from None
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return again

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = self._service.config.limits.request_seconds
        try:
            async with asyncio.timeout(seconds):
                if scope["method"] == "POST":
                    receive = await self._whole_body(scope, receive)
                await self._app(scope, receive, send)
        except TimeoutError:
            raise Problem(504, TIMED_OUT, f"no answer within {seconds:g} s; send less") from None


def is_open(path: str) -> bool:
    """Whether a path, without the prefix under which the service is mounted, needs no token and has no limits."""
    return path in OPEN or path.startswith(OPEN_FOLDER)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _host_name(host: str) -> str:
    """`localhost:8000` and `[::1]:8000` without the port, in lower case, since names differ in nothing by it."""
    host = host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
