"""Bearer tokens: who may ask."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
from dataclasses import dataclass

from wmtp_ray.config.serve import BearerConfig
from wmtp_ray.errors import ConfigError

SHORTEST = 16


@dataclass(frozen=True, repr=False)
class BearerTokens:
    """The tokens that are accepted; none means that everyone on this machine is."""

    _tokens: tuple[bytes, ...]

    @classmethod
    def none(cls) -> BearerTokens:
        return cls(())

    @classmethod
    def read(cls, config: BearerConfig) -> BearerTokens:
        """Those of the file and of the environment variable together.

        Errors: `ConfigError` for a file that cannot be read or holds none, and for a token that is too short. The
        token itself is not named.
        """
        tokens: list[str] = []
        if config.file is not None:
            try:
                lines = config.file.expanduser().read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"tokens.file {config.file} cannot be read ({error}); correct it or its rights"
                ) from error
            tokens += [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
            if not tokens:
                raise ConfigError(
                    f"tokens.file {config.file} holds no token; write one a line, or remove the setting"
                )
        if config.variable is not None:
            tokens += [t for t in re.split(r"[,\s]+", os.environ.get(config.variable, "")) if t]
        if any(len(token) < SHORTEST for token in tokens):
            raise ConfigError(
                f"a bearer token has fewer than {SHORTEST} characters; make one with `openssl rand -hex 24`"
            )
        return cls(tuple(token.encode() for token in tokens))

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def client_of(self, authorization: bytes) -> str | None:
        """Which token an `Authorization` header bears ("client 0", ...), None for no valid one. Every token is
        compared, each in constant time."""
        scheme, _, given = authorization.partition(b" ")
        matches = [hmac.compare_digest(token, given.strip()) for token in self._tokens]
        return f"client {matches.index(True)}" if scheme.lower() == b"bearer" and any(matches) else None


def require_tokens(host: str | None, tokens: BearerTokens) -> None:
    """`ConfigError` where the HTTP server is reachable from elsewhere and everyone could ask."""
    if not tokens and not is_loopback(host):
        raise ConfigError(
            f"the HTTP server listens on {host}, beyond this machine, and there are no bearer tokens; set tokens.file "
            "or the environment variable WMTP_SERVE_TOKENS, or listen on 127.0.0.1"
        )


def is_loopback(host: str | None) -> bool:
    """Whether only this machine reaches a server that listens on `host`; None is a server without HTTP."""
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
