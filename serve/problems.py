"""Refusals as problem documents (RFC 9457): what was wrong, where, and when to come again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError, StarletteHTTPException

from wmtp_ray.client.wire import PROBLEM, ProblemCause, ProblemDocument
from wmtp_ray.errors import WMTPError

PROBLEM_JSON = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "Not authorised",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "The request did not arrive in time",
    413: "The request is too large",
    415: "Not JSON",
    422: "The request cannot be scored",
    429: "Too many requests at a time",
    500: "Internal error",
    503: "Not now",
    504: "Not done in time",
}


class Problem(WMTPError):
    """A refusal. `kind` is the stable name in the document's type; `retry_after` in seconds."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        retry_after: float | None = None,
        causes: Sequence[ProblemCause] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.retry_after, self.causes = status, kind, retry_after, tuple(causes)

    def response(self, headers: dict[str, str] | None = None) -> Response:
        """The HTTP response; `Retry-After` is rounded up to whole seconds."""
        document = ProblemDocument(
            type=PROBLEM + self.kind,
            title=TITLES.get(self.status, "Error"),
            status=self.status,
            detail=str(self),
            errors=list(self.causes),
        )
        headers = dict(headers or {})
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(document.model_dump_json(), self.status, headers, PROBLEM_JSON)


def unusable(detail: str, pointer: str) -> Problem:
    """422 for the part of the request at `pointer`."""
    return Problem(422, "unusable", detail, causes=[ProblemCause(pointer=pointer, detail=detail)])


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of an operation, for its OpenAPI description."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {s: {"description": TITLES[s], "content": {PROBLEM_JSON: {"schema": schema}}} for s in statuses}


async def on_problem(_: Request, error: Exception) -> Response:
    """Of our own refusals."""
    assert isinstance(error, Problem)
    return error.response()


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Of the framework's: unknown path, wrong method."""
    assert isinstance(error, StarletteHTTPException)
    kind = TITLES.get(error.status_code, "error").lower().replace(" ", "-")
    detail = f"{error.detail}; the operations are listed at /docs"
    return Problem(error.status_code, kind, detail).response(dict(error.headers or {}))


async def on_invalid(_: Request, error: Exception) -> Response:
    """Of a body that does not fit its schema. What was sent is not repeated: it may be private."""
    assert isinstance(error, RequestValidationError)
    causes = [
        ProblemCause(pointer=_pointer(fault["loc"]), detail=_plain(str(fault["msg"])))
        for fault in error.errors()
    ]
    first = causes[0] if causes else ProblemCause(pointer="", detail="the request is not valid")
    others = len(causes) - 1
    more = f" (and {others} more fault{'s'[: others > 1]})" if others else ""
    detail = f"{first.pointer or 'body'}: {first.detail}{more}; see /docs for what is accepted"
    return Problem(422, "invalid", detail, causes=causes).response()


def _pointer(location: Sequence[int | str]) -> str:
    """(body, items, 0, tokens, response_start) -> /items/0/response_start: the union's tag is no part of the body."""
    parts = [str(part) for part in location if part != "body"]
    if len(parts) > 2 and parts[0] == "items" and parts[2] in ("instruction", "prompt", "tokens"):
        del parts[2]
    return _plain("".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts))


def _plain(text: str) -> str:
    """Text that can be encoded: a key of the request may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
