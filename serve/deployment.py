"""The deployment: one kind of replica that answers HTTP, batches by tokens and holds the critic."""

from __future__ import annotations

import logging
import os
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.context import _get_global_client

from serve.api import build_api
from serve.ray_measures import RayMeasures
from serve.service import ScoringService
from serve.tokens import BearerTokens, require_tokens
from wmtp_ray.config.load import validate
from wmtp_ray.config.serve import DRAIN_SECONDS, ServeConfig

logger = logging.getLogger("ray.serve")
# Beyond what a replica takes at a time, the router queues; both are wide, since replicas refuse by tokens.
MOST_OPEN = 512


@serve.deployment(
    name="critic",
    max_ongoing_requests=MOST_OPEN,
    max_queued_requests=2 * MOST_OPEN,
    backpressure_config={"status_code": 503, "retry_after_s": 2},
    graceful_shutdown_timeout_s=DRAIN_SECONDS,
    graceful_shutdown_wait_loop_s=0.5,
    health_check_period_s=5,
    health_check_timeout_s=20,
    ray_actor_options={"num_cpus": 1},
)
@serve.ingress()
class CriticDeployment:
    """A replica. Its `user_config` is a `ServeConfig`; a changed one (a new critic, say) is loaded beside the old one,
    which answers until the swap."""

    def __init__(self) -> None:
        if not ray.get_gpu_ids():
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # or it would take the first one, which is another's
        self._service = ScoringService(RayMeasures())

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._service)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve before the first request and at every change of `user_config`."""
        config = validate(ServeConfig, user_config, "user_config")
        client = _get_global_client()
        assert client is not None, "inside a replica"
        require_tokens(client.http_config.host, BearerTokens.read(config.tokens))
        await self._service.configure(config)
        serving = self._service.serving
        logger.info(
            "serving critic %s (%s)", serving.critic.identity.version, serving.critic.identity.fingerprint
        )

    def check_health(self) -> None:
        """Called by Serve; raises where the model's thread is gone or hangs, and Serve replaces the replica."""
        self._service.check()


def critic_application(config: ServeConfig, **options: Any) -> serve.Application:
    """The application, for `serve.run` or a config file; `options` are those of a deployment."""
    user_config = config.model_dump(mode="json")
    return CriticDeployment.options(user_config=user_config, **options).bind()
