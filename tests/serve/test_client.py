"""The client: what it retries, what it does not, and the numbers it brings back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from tests.serve.conftest import served, service_config
from tests.serve.test_api import CODE, ITEM, ask
from wmtp_ray.client import InstructionItem, Options, PromptItem, ScoreClient, ServiceRefusal
from wmtp_ray.client.base64_arrays import decode_array, encode_array
from wmtp_ray.client.score_client import retry_after
from wmtp_ray.data.batch import pack
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.errors import ConfigError, InfraError
from wmtp_ray.models.score_engine import EngineSettings, load_engine
from wmtp_ray.models.scorer import score
from wmtp_ray.models.value_model import KIND, ValueModel
from wmtp_ray.storage import read_manifest

INFO = {"critic": {"fingerprint": "f", "version": "v", "dtype": "float32", "tokenizer_fingerprint": "t"}}


class Through(httpx.BaseTransport):
    """Hands requests on to the service in this process, after the failures given."""

    def __init__(
        self, answer: Callable[[httpx.Request], httpx.Response], failures: list[httpx.Response | Exception]
    ) -> None:
        self.answer, self.failures, self.asked = answer, failures, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        return self.answer(request)


def scripted(*failures: httpx.Response | Exception, patience: float = 20.0) -> tuple[ScoreClient, Through]:
    transport = Through(lambda _: httpx.Response(200, json=INFO), list(failures))
    return ScoreClient("http://localhost", transport=transport, patience=patience), transport


def asking(api: TestClient) -> tuple[ScoreClient, Through]:
    def answer(request: httpx.Request) -> httpx.Response:
        response = api.request(
            request.method, request.url.path, content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)

    transport = Through(answer, [])
    return ScoreClient("http://localhost", transport=transport, patience=20), transport


@pytest.fixture(scope="module")
def client(api: TestClient) -> ScoreClient:
    return asking(api)[0]


@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
    + [httpx.Response(status) for status in (408, 429, 500, 502, 503, 504)],
)
def test_what_may_pass_is_tried_again(failure: httpx.Response | Exception) -> None:
    client, transport = scripted(failure)
    assert client.critic().version == "v"
    assert transport.asked == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422])
def test_what_will_not_is_not(status: int) -> None:
    client, transport = scripted(
        httpx.Response(status, json={"type": "t", "title": "", "status": status, "detail": "why"})
    )
    with pytest.raises(ServiceRefusal, match=f"{status}.*why") as refusal:
        client.critic()
    assert refusal.value.problem is not None
    assert transport.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"status": "ok"}),
        httpx.Response(200, json={"critic": {"fingerprint": "f"}}),
    ],
)
def test_what_another_server_answers_is_a_refusal(answer: httpx.Response) -> None:
    client, transport = scripted(answer)
    with pytest.raises(ServiceRefusal, match="/v1/info answered something else"):
        client.critic()
    assert transport.asked == 1


@pytest.mark.parametrize("token", ["secret\nof two lines", "secret\x00", "sécret"])
def test_a_token_that_no_header_may_hold_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="bearer token") as error:
        ScoreClient("http://localhost", token=token)
    assert "cret" not in str(error.value)


def test_a_tokens_line_break_is_none_of_it() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200, json=INFO)

    ScoreClient("http://localhost", token=" secret\n", transport=Through(answer, [])).critic()
    assert seen == ["Bearer secret"]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://localhost:port"])
def test_a_url_that_cannot_be_asked_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match=f"{url}.*give the service's"):
        ScoreClient(url, patience=5).critic()


def test_what_is_no_http_is_not_tried_again() -> None:
    client, transport = scripted(httpx.LocalProtocolError("illegal"))
    with pytest.raises(ConfigError, match="illegal"):
        client.critic()
    assert transport.asked == 1


def test_what_the_service_cannot_do_in_time_is_asked_once_more(root: Path) -> None:
    config = service_config(root, limits={"request_seconds": 0.001}, forward_seconds=0.0005)
    with served(config) as api:
        client, transport = asking(api)
        with pytest.raises(ServiceRefusal, match=r"504.*no answer within 0\.001 s; send less"):
            client.score([InstructionItem(**ITEM)])
        assert transport.asked == 2


def test_the_services_own_time_is_waited_for() -> None:
    client, _ = scripted(httpx.Response(503, headers={"Retry-After": "1"}))
    began = time.monotonic()
    client.critic()
    assert time.monotonic() - began >= 1


def test_patience_ends_with_the_last_reason() -> None:
    client, _ = scripted(*[httpx.Response(503)] * 50, patience=0.5)
    with pytest.raises(InfraError, match=r"within 0\.5 s; last: 503"):
        client.critic()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("3", 3), ("soon", 0), ("-1", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_scores_are_those_of_the_api(client: ScoreClient, api: TestClient) -> None:
    items = [InstructionItem(**ITEM), PromptItem(prompt="x", response=CODE)]
    assert client.score(items, Options(lam=0.5)) == ask(
        api, [ITEM, {"prompt": "x", "response": CODE}], lam=0.5
    )


def test_however_items_are_cut_into_requests_they_keep_order_and_weights(root: Path) -> None:
    items = [PromptItem(prompt=f"{n}", response=f"x = {n}\n" * (1 + n % 3)) for n in range(23)]
    given = Options(statistics="given", mean=0.0, std=1.0)
    options = given.model_copy(update={"normalize": "none"})
    with served(service_config(root, weighting={"normalize": "mean_one"})) as api:
        client, transport = asking(api)
        scored = list(client.score_each(items, options, items_per_request=4))
        assert transport.asked == 6
        assert [item.response for item in scored] == [item.response for item in items]
        for one, whole in zip(scored, client.score(items, options).items, strict=True):
            assert [t.weight for t in one.tokens] == pytest.approx([t.weight for t in whole.tokens], abs=1e-5)
        for dependent in (Options(normalize="none"), given):
            with pytest.raises(ConfigError, match="must not depend on the request"):
                next(client.score_each(items, dependent))


def test_ranking(client: ScoreClient) -> None:
    answer = client.rank("Add two numbers.", [CODE, "pass\n"])
    assert sorted(entry.index for entry in answer.ranking) == [0, 1]


def test_a_packed_batch_has_bitwise_the_values_of_the_library(client: ScoreClient, root: Path) -> None:
    rng = np.random.default_rng(3)

    def sample(number: int, length: int, start: int) -> TokenizedSample:
        return TokenizedSample(number, rng.integers(3, 4000, length).astype(np.int32), start, False)

    batch = pack([[sample(0, 30, 12), sample(1, 40, 1)], [sample(2, 55, 0)]], pad_id=2)
    model = ValueModel.load(root / "runs" / "critic-quickstart" / "export")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = score(model, batch, torch.device("cpu"))
    torch.set_num_threads(threads)
    directory = root / "runs" / "critic-quickstart" / "export"
    values = client.score_batch(batch, fingerprint=read_manifest(directory, KIND).fingerprint)
    assert [len(v) for v in values] == [19, 40, 55]
    for got, want in zip(values, expected, strict=True):
        assert got.dtype == np.float32
        assert got.tobytes() == want.tobytes()
    with pytest.raises(InfraError, match="not 0000"):
        client.score_batch(batch, fingerprint="0000")


def test_a_training_jobs_engine_gets_from_a_service_what_it_would_compute(url: str, root: Path) -> None:
    directory = root / "runs" / "critic-quickstart" / "export"
    fingerprint = read_manifest(directory, KIND).fingerprint
    own = EngineSettings("values", directory, fingerprint, root / "models")
    served = replace(own, backend="serve", url=url)
    batch = pack([[TokenizedSample(7, np.arange(5, 60, dtype=np.int32), 20, False)]], pad_id=2)
    engines = [load_engine(settings, torch.device("cpu"), 1) for settings in (own, served)]
    (computed,), (asked,) = (engine.score(batch) for engine in engines)
    np.testing.assert_allclose(asked, computed, atol=1e-5, rtol=0)
    other = load_engine(replace(served, fingerprint="another"), torch.device("cpu"), 1)
    with pytest.raises(InfraError, match="fresh run"):
        other.score(batch)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_arrays_survive_the_wire(numbers: list[int]) -> None:
    assert decode_array(encode_array(np.array(numbers, dtype=np.int32), "<i4"), "<i4").tolist() == numbers


@pytest.mark.parametrize("text", ["AAA", "AAAA", "é", "A=AA", "AQAAAA==\n"])
def test_damaged_arrays_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_array(text, "<i4")
