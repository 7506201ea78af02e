"""Configuration of the critic as a service: which critic, how it batches, what it accepts, who may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from wmtp_ray.config.base import Section
from wmtp_ray.config.model import DTypeName
from wmtp_ray.config.run import StorageConfig
from wmtp_ray.config.weighting import CriticWeighting

DRAIN_SECONDS = 50.0
"""How long a replica that is to end goes on answering. `serve.delete` waits no longer than 60 s for it."""


MOST_ITEMS = 2**16
"""Of a request, whatever a service is configured to take: checking its schema is bounded, too."""


class ServedCriticConfig(Section):
    """The frozen critic."""

    run: str | None = "quickstart"
    """Name of a finished critic run under the storage root; or give `path`."""
    path: str | None = None
    """Absolute directory of an exported critic; with `run: null`."""
    version: str | None = None
    """What answers call this critic; null = the first 12 digits of its fingerprint."""
    dtype: DTypeName | None = None
    """Compute dtype, or `auto`; null = the one that it was trained in."""
    threads: PositiveInt = 1
    """Torch threads of a replica."""
    statistics_run: str | None = None
    """Name of a policy's run under the storage root that this critic weighted: its whitening statistics are those of
    `statistics: ema`."""


class ServeLimitsConfig(Section):
    """What a replica accepts. Beyond it a request is refused, never cut."""

    body_bytes: PositiveInt = 8_000_000
    """Of a request's body (413)."""
    items: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 256
    """Items of a request (422)."""
    item_tokens: PositiveInt | None = None
    """Tokens of an item (422); null = the positions that the model has. Never more than those."""
    request_tokens: PositiveInt = 65_536
    """Tokens of a request (422)."""
    requests_per_client: PositiveInt = 256
    """Requests that one bearer token (or all anonymous clients together) may have open at a replica (429)."""
    queue_tokens: PositiveInt = 262_144
    """Tokens that may wait for the model (503)."""
    queue_seconds: PositiveFloat = 10.0
    """Time that a new request may have to wait for the model, as estimated from its present speed (503)."""
    body_seconds: PositiveFloat = 10.0
    """Time for a body to arrive (408)."""
    request_seconds: Annotated[float, Field(gt=0, le=DRAIN_SECONDS - 5)] = DRAIN_SECONDS - 5
    """Time for an answer, its body's arrival included (504): a replica that is to end still answers all it accepted."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.request_tokens > self.queue_tokens:
            raise ValueError(
                f"limits.request_tokens = {self.request_tokens} is more than limits.queue_tokens = "
                f"{self.queue_tokens}, so such a request would never be accepted; lower the first or raise the second"
            )
        return self


class BearerConfig(Section):
    """Who may ask. Without tokens the service answers on this machine's own address only."""

    file: Path | None = None
    """A file with one token a line; lines that start with # are comments."""
    variable: str | None = "WMTP_SERVE_TOKENS"
    """An environment variable of the replicas with tokens separated by commas or white space; unset is none."""


class ServeConfig(Section):
    """The service: `make serve`, or `user_config` of the deployment in `serve/config.yaml`."""

    storage: StorageConfig = StorageConfig()
    critic: ServedCriticConfig = ServedCriticConfig()
    weighting: CriticWeighting | None = None
    """What a request's options are where it does not say; null = as the policy `critic.statistics_run` was weighted,
    or, where none is named, training's defaults."""
    batch_tokens: PositiveInt = 4096
    """Tokens of one forward pass. One longer item is still scored, alone."""
    limits: ServeLimitsConfig = ServeLimitsConfig()
    tokens: BearerConfig = BearerConfig()
    public_host: tuple[str, ...] = ()
    """Names under which clients reach a service without tokens, beside this machine's own (a tunnel's, say)."""
    forward_seconds: PositiveFloat = 40.0
    """A forward pass that takes longer makes its replica unhealthy, and Serve replaces it; less than `request_seconds`,
    so that its clients ask again."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.critic.run is None) == (self.critic.path is None):
            raise ValueError(
                f"critic.run = {self.critic.run!r} and critic.path = {self.critic.path!r}; set exactly one of them, "
                "the other to null"
            )
        if self.critic.path and not Path(self.critic.path).expanduser().is_absolute():
            raise ValueError(f"critic.path = {self.critic.path!r} is relative; give an absolute path")
        if self.weighting and self.weighting.rewards:
            raise ValueError("weighting.rewards = true: the service knows no label of a response; set false")
        if self.forward_seconds >= self.limits.request_seconds:
            raise ValueError(
                f"forward_seconds = {self.forward_seconds:g} is not less than limits.request_seconds = "
                f"{self.limits.request_seconds:g}, so clients would never learn of a replica that hangs; lower it"
            )
        return self


class ListenConfig(Section):
    """Where `make serve` listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000


class ServeCommandConfig(ServeConfig):
    """`python -m serve KEY=VALUE ...`: the service, and where its HTTP server listens."""

    listen: ListenConfig = ListenConfig()
    replicas: PositiveInt = 1
    cpus_per_replica: NonNegativeFloat = 1.0
    gpus_per_replica: NonNegativeFloat = 0.0
