"""The HTTP API: operations, their description, the page and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError, StarletteHTTPException
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from serve.guard import Guard, is_open
from serve.problems import Problem, documented, on_http_exception, on_invalid, on_problem
from serve.service import ScoringService
from wmtp_ray import __version__
from wmtp_ray.client.wire import (
    CriticIdentity,
    Options,
    ProblemDocument,
    RankAnswer,
    RankRequest,
    ScoreAnswer,
    ScoreRequest,
    ValuesAnswer,
    ValuesRequest,
)

PAGE = Path(__file__).parent / "page"
_LOADED = (401, 403, 429, 503, 504)
_POSTED = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 504)
# The page's own files and requests to this server: nothing else, from nowhere else.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class AcceptedLimits(BaseModel):
    """What one request may hold."""

    body_bytes: int
    items: int
    item_tokens: int
    request_tokens: int


class EMAShown(BaseModel):
    """What `statistics: ema` whitens by."""

    run: str
    mean: float
    std: float


class Info(BaseModel):
    """What serves here."""

    service: str = "wmtp_ray"
    software: str
    critic: CriticIdentity
    backbone: str
    head: str
    ranks: bool
    """Whether the critic was trained by ranking; then only gamma 1 makes sense."""
    options: Options
    """What options are where a request does not say."""
    ema: EMAShown | None
    limits: AcceptedLimits


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


class Ready(BaseModel):
    """A critic is loaded and has scored a probe."""

    status: str = "ready"
    critic: CriticIdentity


def build_api(service: ScoringService) -> FastAPI:
    """The application around `service`, which may be without a critic yet: `/readyz` then answers 503."""
    api = FastAPI(
        title="wmtp_ray critic",
        version=__version__,
        summary="Value, advantage and training weight of every token of a program.",
        docs_url=None,  # its page would come from another server; /docs below needs none
        redoc_url=None,
        responses={500: documented(500)[500]},
    )
    api.add_middleware(Guard, service=service)
    api.add_exception_handler(Problem, on_problem)
    api.add_exception_handler(StarletteHTTPException, on_http_exception)
    api.add_exception_handler(RequestValidationError, on_invalid)
    api.add_exception_handler(Exception, _on_error)
    _add_operations(api, service)
    _add_probes(api, service)
    _add_pages(api)
    api.openapi = lambda: _openapi(api)  # type: ignore[method-assign]
    return api


def _add_operations(api: FastAPI, service: ScoringService) -> None:
    @api.post("/v1/score", response_model=ScoreAnswer, responses=documented(*_POSTED), tags=["scoring"])
    async def score(request: ScoreRequest) -> Any:
        """Value, advantage and weight of each response token. Items of all kinds may be mixed."""
        return _json(await service.score(request))

    @api.post("/v1/rank", response_model=RankAnswer, responses=documented(*_POSTED), tags=["scoring"])
    async def rank(request: RankRequest) -> Any:
        """Responses to one instruction by mean value, best first; from a ranking critic also P(i is better than j)."""
        return _json(await service.rank(request))

    @api.post("/v1/values", response_model=ValuesAnswer, responses=documented(*_POSTED), tags=["scoring"])
    async def values(request: ValuesRequest) -> Any:
        """Raw values of one packed micro-batch, computed exactly as it is packed: what training jobs ask."""
        return _json(await service.values(request))

    @api.get("/v1/info", response_model=Info, responses=documented(*_LOADED), tags=["service"])
    async def info() -> Info:
        """Critic, default options, limits."""
        serving = service.serving
        limits, ema, model = serving.config.limits, serving.ema, serving.critic.model.config
        return Info(
            software=__version__,
            critic=serving.critic.identity,
            backbone=Path(model.name).name,
            head=model.head,
            ranks=serving.critic.ranks,
            options=serving.options,
            ema=EMAShown(run=ema.run, mean=ema.mean, std=ema.std) if ema else None,
            limits=AcceptedLimits(
                body_bytes=limits.body_bytes,
                items=limits.items,
                item_tokens=serving.preparer.item_tokens,
                request_tokens=limits.request_tokens,
            ),
        )


def _add_probes(api: FastAPI, service: ScoringService) -> None:
    @api.get("/healthz", response_model=Alive, responses=documented(403), tags=["service"])
    async def healthz() -> Alive:
        """The process answers."""
        return Alive()

    @api.get("/readyz", response_model=Ready, responses=documented(403, 503), tags=["service"])
    async def readyz() -> Ready:
        """A critic is loaded and has scored a probe."""
        return Ready(critic=service.serving.critic.identity)

    content = {_PROMETHEUS: {"schema": {"type": "string"}}}
    responses = {
        200: {"description": "Prometheus text", "content": content},
        **documented(*_LOADED),
    }

    @api.get("/metrics", response_class=Response, responses=responses, tags=["service"])
    async def metrics() -> Response:
        """This project's metrics of the whole cluster; Ray refreshes them about every 10 s."""
        return Response(await service.measures.exposition(), media_type=_PROMETHEUS)


def _add_pages(api: FastAPI) -> None:
    headers = {"Content-Security-Policy": CONTENT_POLICY, "X-Content-Type-Options": "nosniff"}

    @api.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        if not request.url.path.endswith("/"):  # a route prefix: the page's own addresses are relative to it
            return RedirectResponse(f"{request.url.path}/")
        return FileResponse(PAGE / "index.html", headers=headers)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html", headers=headers)

    api.mount("/page", StaticFiles(directory=PAGE))


def _openapi(api: FastAPI) -> dict[str, Any]:
    """FastAPI's description, plus what it cannot know: the problem documents and the bearer token."""
    if api.openapi_schema is None:
        document = FastAPI.openapi(api)
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs", {}))
        schemas["ProblemDocument"] = problem
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if not is_open(path):
                    operation["security"] = [{}, {"token": []}]
        api.openapi_schema = document
    return api.openapi_schema


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


async def _on_error(_: Request, __: Exception) -> Response:
    """A bug: the log has its traceback, the client no details."""
    return Problem(500, "internal", "an internal error occurred; the log of the service says more").response()
