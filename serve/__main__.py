"""Serve a critic on this machine, with its page: a local Ray for as long as this command runs.

make serve                                             # the quickstart's critic
python -m serve storage.root=/data/wmtp critic.run=mine listen.port=9000
python -m serve critic.run=null critic.path=/data/export tokens.file=/etc/wmtp/tokens listen.host=0.0.0.0
"""

from __future__ import annotations

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's client reads it when it is imported

import logging
import signal
import sys
import threading
from contextlib import suppress
from typing import Annotated

import typer
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from serve.critic import critic_directory
from serve.deployment import critic_application
from serve.tokens import BearerTokens, require_tokens
from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.local import enable_token_authentication
from wmtp_ray.cluster.resources import times, total
from wmtp_ray.config.command import quiet_libraries
from wmtp_ray.config.load import validate_overrides
from wmtp_ray.config.serve import ServeCommandConfig, ServeConfig
from wmtp_ray.errors import InfraError, WMTPError


def main(overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...")] = None) -> None:
    """Serve the critic until Ctrl-C."""
    quiet_libraries()
    try:
        config = validate_overrides(ServeCommandConfig, overrides or [])
        critic_directory(config.critic, config.storage.root)  # the likeliest mistakes, before Ray starts
        require_tokens(config.listen.host, BearerTokens.read(config.tokens))
        enable_token_authentication()
        with connected(_resources(config)):
            _serve_until_interrupted(config)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except WMTPError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from None


def _resources(config: ServeCommandConfig) -> dict[str, float]:
    each = {"CPU": config.cpus_per_replica, "GPU": config.gpus_per_replica}
    return total(times(config.replicas, each), {"CPU": 1})


def _serve_until_interrupted(config: ServeCommandConfig) -> None:
    # In place of the handler that Ray set on joining, which aborts.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if serve.status().proxies:
        raise InfraError(
            "Ray Serve runs on this cluster already, and this command ends Serve with itself; deploy beside what is "
            "there by `serve deploy serve/config.yaml`, or unset RAY_ADDRESS for a Ray of its own"
        )
    try:
        _start(config)
        host = "localhost" if config.listen.host in ("0.0.0.0", "127.0.0.1", "::") else config.listen.host
        typer.echo(f"serving at http://{host}:{config.listen.port} (page; API at /docs). Ctrl-C ends it.")
        threading.Event().wait()
    finally:
        _end()


def _start(config: ServeCommandConfig) -> None:
    own = ServeConfig.model_validate(config.model_dump(include=set(ServeConfig.model_fields)))
    application = critic_application(
        own,
        num_replicas=config.replicas,
        ray_actor_options={"num_cpus": config.cpus_per_replica, "num_gpus": config.gpus_per_replica},
    )
    quiet = LoggingConfig(log_level="ERROR", enable_access_log=False)
    listen = HTTPOptions(host=config.listen.host, port=config.listen.port)
    try:
        serve.start(http_options=listen, logging_config=quiet)
        serve.run(application, name="critic", logging_config=quiet)
    except (RuntimeError, RayError, TimeoutError) as error:
        raise InfraError(f"the service did not start: {_reason(error)}") from error


def _end() -> None:
    """Open requests are answered while the HTTP server still stands."""
    try:
        serve.delete("critic")
    except TimeoutError:
        typer.echo(
            "error: replicas were busy for a minute longer and are ended with their requests", err=True
        )
    except (RayError, RayServeException):  # there is nothing to end
        return
    serve.shutdown()


def _reason(error: Exception) -> str:
    """What a replica said when it could not start, without the traces around it."""
    said: list[str] = []
    with suppress(RayError):  # where Ray itself is gone
        if status := serve.status().applications.get("critic"):
            said = [d.message for d in status.deployments.values()]
    lines = [line.strip() for text in (*said, str(error)) for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "wmtp_ray.errors." in line]
    return (named or lines)[-1]


if __name__ == "__main__":
    typer.run(main)
