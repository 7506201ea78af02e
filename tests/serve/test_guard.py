"""Who may ask, how much, and how slowly."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from serve.api import build_api
from serve.measures import NoMeasures
from serve.service import ScoringService
from serve.tokens import BearerTokens, is_loopback, require_tokens
from tests.serve.conftest import served, service_config
from tests.serve.test_api import ITEM, refused
from wmtp_ray.config.serve import BearerConfig, ServeConfig
from wmtp_ray.errors import ConfigError

SECRETS = ("a-token-of-one-client", "a-token-of-another-one")


@pytest.fixture(scope="module")
def guarded(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("# who may ask\n" + "\n".join(SECRETS) + "\n")
    with served(service_config(root, tokens={"file": str(file)})) as client:
        yield client


@pytest.mark.parametrize("token", SECRETS)
def test_either_token_opens(guarded: TestClient, token: str) -> None:
    assert guarded.get("/v1/info", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert guarded.get("/metrics", headers={"Authorization": f"bearer {token}"}).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer no", f"Basic {SECRETS[0]}", SECRETS[0], "Bearer é"]
)
def test_nothing_else_does(guarded: TestClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in ("/v1/info", "/metrics"):
        answer = guarded.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"


def test_probes_and_the_page_need_no_token(guarded: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/page/app.js"):
        assert guarded.get(path, headers={"Host": "critic.example"}).status_code == 200


def test_under_a_route_prefix_the_same_is_open_and_the_same_is_not(guarded: TestClient) -> None:
    mounted = TestClient(guarded.app, base_url="http://localhost", root_path="/critic")
    for path in ("", "/", "/docs", "/openapi.json", "/page/app.js", "/healthz", "/readyz"):
        assert mounted.get(f"/critic{path}").status_code == 200
    bearer = {"Authorization": f"Bearer {SECRETS[0]}"}
    for path in ("/v1/info", "/metrics"):
        assert mounted.get(f"/critic{path}").status_code == 401
        assert mounted.get(f"/critic{path}", headers=bearer).status_code == 200
    assert mounted.get("/critic/elsewhere").status_code == 401
    assert mounted.post("/critic/v1/score", content=b"{}", headers=bearer).status_code == 415


def test_tokens_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WMTP_SERVE_TOKENS", f"{SECRETS[0]}, {SECRETS[1]}")
    tokens = BearerTokens.read(BearerConfig())
    assert [tokens.client_of(f"Bearer {secret}".encode()) for secret in SECRETS] == ["client 0", "client 1"]
    monkeypatch.setenv("WMTP_SERVE_TOKENS", "short")
    with pytest.raises(ConfigError, match="fewer than 16") as error:
        BearerTokens.read(BearerConfig())
    assert "short" not in str(error.value)


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever token it is, and whether or not it is one: the time tells nothing."""
    compared: list[bytes] = []
    digests_equal = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return digests_equal(one, other)

    monkeypatch.setenv("WMTP_SERVE_TOKENS", " ".join(SECRETS))
    monkeypatch.setattr(hmac, "compare_digest", watched)
    tokens = BearerTokens.read(BearerConfig())
    for given in (SECRETS[0], SECRETS[1], "no", ""):
        compared.clear()
        tokens.client_of(f"Bearer {given}".encode())
        assert compared == [secret.encode() for secret in SECRETS]


def test_a_token_file_must_hold_tokens(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        BearerTokens.read(BearerConfig(file=tmp_path / "none"))
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(ConfigError, match="holds no token"):
        BearerTokens.read(BearerConfig(file=tmp_path / "empty"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "critic.example"])
def test_listening_elsewhere_without_tokens_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="beyond this machine"):
        require_tokens(host, BearerTokens.none())
    monkeypatch.setenv("WMTP_SERVE_TOKENS", SECRETS[0])
    require_tokens(host, BearerTokens.read(BearerConfig()))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", None])
def test_this_machine_alone_needs_none(host: str | None) -> None:
    assert is_loopback(host)
    require_tokens(host, BearerTokens.none())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "192.0.2.1", "localhost.evil.example"])
def test_without_tokens_only_this_machines_names_are_answered(api: TestClient, host: str) -> None:
    assert api.get("/v1/info", headers={"Host": host}).status_code == 403
    for name in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert api.get("/v1/info", headers={"Host": name}).status_code == 200


def test_names_are_the_same_in_upper_and_in_lower_case(root: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        for name in ("Critic.example", "critic.example:443", "CRITIC.EXAMPLE", "[2001:DB8::1]", "LOCALHOST"):
            assert (await client.get("/healthz", headers={"Host": name})).status_code == 200
        assert (await client.get("/healthz", headers={"Host": "example"})).status_code == 403

    _asked(service_config(root, public_host=["Critic.Example", "2001:db8::1"]), ask)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_only_json_is_read(api: TestClient, kind: str) -> None:
    assert refused(api, 415, content=b"{}", headers={"Content-Type": kind}).type.endswith("not-json")


def test_a_large_body_is_refused_by_its_length_and_by_its_bytes(api: TestClient) -> None:
    body = b'{"items": "' + b"x" * 100_000 + b'"}'
    json = {"Content-Type": "application/json"}
    refused(api, 413, content=body, headers=json)
    refused(
        api, 413, content=(body[i : i + 1000] for i in range(0, len(body), 1000)), headers=json
    )  # no length


def _asked(config: ServeConfig, ask: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run `ask(client)` against the service in this process, with its limits and without a critic."""

    async def run() -> None:
        service = ScoringService(NoMeasures())
        service.config = config
        transport = httpx.ASGITransport(build_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await ask(client)

    asyncio.run(run())


@pytest.mark.parametrize(("limit", "status"), [("body_seconds", 408), ("request_seconds", 504)])
def test_a_slow_body_is_given_up(root: Path, limit: str, status: int) -> None:
    async def slowly():
        yield b'{"items": '
        await asyncio.sleep(5)

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/v1/score", content=slowly(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status

    _asked(service_config(root, limits={limit: 0.2}, forward_seconds=0.1), ask)


def test_one_client_has_a_bounded_number_of_open_requests(root: Path) -> None:
    async def held(go_on: asyncio.Event):
        await go_on.wait()
        yield b"{}"

    async def ask(client: httpx.AsyncClient) -> None:
        go_on = asyncio.Event()
        headers = {"Content-Type": "application/json"}
        opened = [
            asyncio.create_task(client.post("/v1/score", content=held(go_on), headers=headers))
            for _ in range(3)
        ]
        await asyncio.sleep(0.1)
        answer = await client.get("/v1/info")
        assert answer.status_code == 429
        assert (await client.get("/healthz")).status_code == 200
        assert answer.headers["retry-after"] == "1"
        go_on.set()
        assert [(await task).status_code for task in opened] == [422, 422, 422]
        assert (await client.get("/v1/info")).status_code == 503  # answered: no critic is loaded here

    _asked(service_config(root, limits={"requests_per_client": 3}), ask)


def test_neither_prompts_nor_tokens_are_logged(guarded: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": f"Bearer {SECRETS[0]}"}
    marked = {"instruction": "the-private-instruction", "response": "the-private-response"}
    assert guarded.post("/v1/score", json={"items": [marked]}, headers=headers).status_code == 200
    broken = guarded.post(
        "/v1/score", json={"items": [{**marked, "gamma": "the-private-key"}]}, headers=headers
    )
    assert broken.status_code == 422
    assert "the-private" not in broken.text
    assert "the-private" not in caplog.text
    assert SECRETS[0] not in caplog.text
    assert guarded.post("/v1/score", json={"items": [ITEM]}, headers=headers).status_code == 200
