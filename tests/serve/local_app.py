"""The API on a plain HTTP server, without Ray: `python -m uvicorn tests.serve.local_app:app` with WMTP_SERVE_CONFIG."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from serve.api import build_api
from serve.measures import NoMeasures
from serve.service import ScoringService
from wmtp_ray.config.load import load_config
from wmtp_ray.config.serve import ServeConfig

service = ScoringService(NoMeasures())
app = build_api(service)
app.mount("/below/a/prefix", build_api(service))
app.mount("/checks", StaticFiles(directory=Path(__file__).parent / "page_checks"))


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    await service.configure(load_config(ServeConfig, os.environ["WMTP_SERVE_CONFIG"]))
    yield
    await service.close()


app.router.lifespan_context = _lifespan
