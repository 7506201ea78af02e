"""What the operations answer, and what they refuse."""

from __future__ import annotations

import asyncio
import math
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from serve.measures import NoMeasures
from serve.service import ScoringService
from tests.serve.conftest import save_critic, served, service_config
from wmtp_ray.client.base64_arrays import encode_array
from wmtp_ray.client.wire import (
    PackedSample,
    ProblemDocument,
    RankAnswer,
    RankRequest,
    ScoreAnswer,
    ValuesAnswer,
    ValuesRequest,
)
from wmtp_ray.config import PolicyJobConfig, load_config
from wmtp_ray.config.serve import MOST_ITEMS, ServeLimitsConfig
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage import read_manifest
from wmtp_ray.storage.runs import RunDirectory

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart"
CODE = "def add(a, b):\n    return a + b\n"
ITEM = {"instruction": "Add two numbers.", "response": CODE}


def ask(api: TestClient, items: list[Any], **options: Any) -> ScoreAnswer:
    answer = api.post("/v1/score", json={"items": items, "options": options})
    assert answer.status_code == 200, answer.text
    return ScoreAnswer.model_validate_json(answer.content)


def refused(api: TestClient, status: int, path: str = "/v1/score", **request: Any) -> ProblemDocument:
    answer = api.post(path, **request)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = ProblemDocument.model_validate_json(answer.content)
    assert problem.status == status
    return problem


def test_every_response_token_has_its_text_place_and_numbers(api: TestClient) -> None:
    answer = ask(api, [ITEM])
    (item,) = answer.items
    assert item.response == CODE == "".join(token.piece for token in item.tokens)
    assert [CODE[t.start : t.end] for t in item.tokens] == [t.piece for t in item.tokens]
    assert len(item.tokens) == item.response_tokens
    assert item.tokens[-1].token_id == 2  # the end of sequence: trained on, without a character
    assert (item.tokens[-1].piece, item.tokens[-1].start) == ("", len(CODE))
    assert item.mean_value == pytest.approx(sum(t.value for t in item.tokens) / len(item.tokens))
    assert item.truncated is False
    assert all(0.1 - 1e-6 <= t.weight <= 3 + 1e-6 for t in item.tokens)
    assert len(answer.critic.fingerprint) == 64
    assert answer.critic.version == answer.critic.fingerprint[:12]


def test_items_of_all_kinds_are_the_same_sample(api: TestClient) -> None:
    prompt = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nAdd two numbers.\n\n### Response:\n"
    )
    by_instruction = ask(api, [ITEM]).items[0]
    by_prompt = ask(api, [{"prompt": prompt, "response": CODE}]).items[0]
    assert by_prompt == by_instruction


def test_an_item_of_ids_is_scored_as_it_is(api: TestClient) -> None:
    ids = [1, 504, 6, 81, 82, 83]
    (item,) = ask(api, [{"token_ids": ids, "response_start": 2}]).items
    assert [token.token_id for token in item.tokens] == ids[2:]
    assert (item.prompt_tokens, item.response_tokens) == (2, 4)
    assert item.prompt_value is not None
    (unprompted,) = ask(api, [{"token_ids": ids, "response_start": 0}]).items
    assert unprompted.prompt_value is None
    assert unprompted.response_tokens == 6


def test_what_shares_a_request_or_a_batch_does_not_change_values(api: TestClient) -> None:
    alone = ask(api, [ITEM]).items[0]
    others = [{"instruction": "x" * n, "response": "y = 1\n" * n} for n in (1, 5, 20)]
    together = ask(api, [*others, ITEM]).items[3]
    assert [t.value for t in together.tokens] == pytest.approx([t.value for t in alone.tokens], abs=1e-5)


def test_statistics_given_reproduce_those_of_the_batch(api: TestClient) -> None:
    own = ask(api, [ITEM, {**ITEM, "response": "pass\n"}])
    statistics = own.statistics
    given = ask(
        api,
        [ITEM, {**ITEM, "response": "pass\n"}],
        statistics="given",
        mean=statistics.mean,
        std=statistics.std,
    )
    for one, other in zip(own.items, given.items, strict=True):
        assert [t.weight for t in one.tokens] == pytest.approx([t.weight for t in other.tokens], abs=1e-6)


def test_normalised_weights_average_one_and_the_end_may_weigh_one(api: TestClient) -> None:
    item = ask(api, [ITEM], normalize="mean_one").items[0]
    assert sum(t.weight for t in item.tokens) / len(item.tokens) == pytest.approx(1, abs=1e-5)
    assert ask(api, [ITEM], eos_weight="one").items[0].tokens[-1].weight == 1


def test_td_errors_are_differences_of_values(api: TestClient) -> None:
    item = ask(api, [ITEM], lam=0, first_token="prompt_value").items[0]
    assert item.prompt_value is not None
    values = [item.prompt_value, *(t.value for t in item.tokens)]
    differences = [after - before for before, after in pairwise(values)]
    assert [t.advantage for t in item.tokens] == pytest.approx(differences, abs=1e-6)


def test_levels_are_values_above_their_mean(api: TestClient) -> None:
    item = ask(api, [ITEM], lam=0, credit="level").items[0]
    above = [t.value - item.mean_value for t in item.tokens]
    assert [t.advantage for t in item.tokens] == pytest.approx(above, abs=1e-6)


def test_ranking_orders_by_mean_value_with_logistic_probabilities(api: TestClient) -> None:
    responses = ["return 1\n", CODE, "pass\n", CODE]
    answer = api.post("/v1/rank", json={"instruction": ITEM["instruction"], "responses": responses})
    ranked = RankAnswer.model_validate_json(answer.content)
    means = {entry.index: entry.mean_value for entry in ranked.ranking}
    assert [entry.mean_value for entry in ranked.ranking] == sorted(means.values(), reverse=True)
    scored = ask(api, [{**ITEM, "response": response} for response in responses])
    assert [means[i] for i in range(4)] == pytest.approx([i.mean_value for i in scored.items], abs=1e-5)
    for i in range(4):
        for j in range(4):
            expected = 1 / (1 + math.exp(means[j] - means[i]))
            assert ranked.probabilities is not None
            assert ranked.probabilities[i][j] == pytest.approx(expected)
    assert means[1] == pytest.approx(means[3], abs=1e-5)


def test_values_of_a_critic_that_was_not_trained_by_ranking_are_no_log_odds(
    root: Path, tmp_path: Path
) -> None:
    save_critic(tmp_path, "quickstart", 1, model=root / "model", method="lambda_return")
    with served(service_config(tmp_path)) as client:
        assert client.get("/v1/info").json()["ranks"] is False
        wanted = {"instruction": ITEM["instruction"], "responses": ["pass\n", CODE]}
        ranked = RankAnswer.model_validate_json(client.post("/v1/rank", json=wanted).content)
    assert len(ranked.ranking) == 2
    assert ranked.probabilities is None


@pytest.mark.parametrize(
    ("items", "options", "pointer", "said"),
    [
        ([{"prompt": "x", "response": ""}], {}, "/items/0/response", "empty"),
        ([{"prompt": "x" * 5000, "response": "y"}], {}, "/items/0/response", "prompt alone"),
        ([ITEM, {"prompt": "x", "response": "y = 1\n" * 300}], {}, "/items/1/response", "truncate: true"),
        ([{"token_ids": [5, 49152], "response_start": 1}], {}, "/items/0/token_ids", "0 to 49151"),
        ([{"token_ids": [5, 6], "response_start": 2}], {}, "/items/0/response_start", "at least one"),
        ([{"prompt": "x", "respnse": "y"}], {}, "/items/0/response", "required"),
        ([ITEM] * 9, {}, "/items", "more than the 8"),
        ([], {}, "/items", "at least 1"),
        ([ITEM], {"gamma": 0.5}, "/options/gamma", "ranking critic"),
        ([ITEM], {"min_weight": 2, "max_weight": 1}, "/options/min_weight", "more than"),
        ([ITEM], {"statistics": "given"}, "/options/statistics", "needs mean and std"),
        ([ITEM], {"mean": 0.0}, "/options/statistics", "nothing else takes them"),
        ([ITEM], {"statistics": "ema"}, "/options/statistics", "no training run"),
        ([ITEM], {"lambda": 0.5}, "/options/lambda", "not permitted"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_place(
    api: TestClient, items: list[Any], options: dict[str, Any], pointer: str, said: str
) -> None:
    problem = refused(api, 422, json={"items": items, "options": options})
    assert problem.errors[0].pointer == pointer
    assert said in problem.detail.lower()


def test_too_many_tokens_together_are_refused(api: TestClient) -> None:
    items = [{"prompt": "x", "response": "y = 1\n" * 70}] * 7
    assert "the first 4 items have" in refused(api, 422, json={"items": items}).detail


def test_a_text_is_refused_by_its_characters_only_where_no_tokens_could_make_it_fit(api: TestClient) -> None:
    longest = "\n" + " " * 80  # of the tokenizer's tokens
    (item,) = ask(api, [{"prompt": "x", "response": longest * 395}]).items
    assert item.response_tokens == 396
    wanted = {"items": [{"prompt": "x", "response": longest * 401}], "options": {"truncate": True}}
    problem = refused(api, 422, json=wanted)
    assert "32481 characters and may have 32400" in problem.detail
    for name in ("instruction", "prompt"):
        problem = refused(api, 422, json={"items": [{name: longest * 401, "response": "y"}]})
        assert problem.errors[0].pointer == f"/items/0/{name}"
    problem = refused(api, 422, "/v1/rank", json={"instruction": longest * 401, "responses": ["y"]})
    assert problem.errors[0].pointer == "/instruction"


def test_cutting_is_asked_for_and_said(api: TestClient) -> None:
    (item,) = ask(api, [{"prompt": "x", "response": "y = 1\n" * 300}], truncate=True).items
    assert item.truncated
    assert item.prompt_tokens + item.response_tokens == 400
    assert item.response == ("y = 1\n" * 300)[: len(item.response)]
    assert item.tokens[-1].piece != ""


def test_half_a_surrogate_pair_is_no_text(api: TestClient) -> None:
    body = b'{"items": [{"prompt": "x", "response": "\\ud83d"}]}'
    problem = refused(api, 422, content=body, headers={"Content-Type": "application/json"})
    assert "surrogate" in problem.detail


@pytest.mark.parametrize(
    ("path", "wanted", "pointer"),
    [
        ("score", {"items": [{}] * 3000}, "/items/0/instruction"),
        ("score", {"items": [{"token_ids": [""] * 3000, "response_start": 0}]}, "/items/0/token_ids/0"),
        ("score", {"items": [{"prompt": "", **dict.fromkeys(map(str, range(3000)))}]}, "/items/0"),
        ("score", {"items": [ITEM], "options": dict.fromkeys(map(str, range(3000)))}, "/options"),
        ("score", {"items": [ITEM], **dict.fromkeys(map(str, range(3000)))}, ""),
        ("score", {"items": [None] * 5000}, "/items/0"),
        ("rank", {"instruction": "", "responses": [0] * 3000}, "/responses/0"),
        ("values", {"rows": [[{}] * 50] * 50}, "/rows/0/0/token_ids"),
    ],
)
def test_however_many_faults_there_are_the_first_is_reported(
    api: TestClient, path: str, wanted: dict[str, Any], pointer: str
) -> None:
    problem = refused(api, 422, f"/v1/{path}", json=wanted)
    assert problem.errors[0].pointer == pointer
    assert len(problem.errors) <= 2


def test_no_service_takes_more_items_than_can_be_checked_soon() -> None:
    with pytest.raises(ValidationError, match=f"at most {MOST_ITEMS} items"):
        RankRequest(instruction="", responses=[""] * (MOST_ITEMS + 1))
    with pytest.raises(ValidationError, match=f"less than or equal to {MOST_ITEMS}"):
        ServeLimitsConfig(items=MOST_ITEMS + 1)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"items": 3}', b"\xff\xfe", b'{"items": [NaN]}']
)
def test_what_is_no_request_is_refused(api: TestClient, body: bytes) -> None:
    refused(api, 422, content=body, headers={"Content-Type": "application/json"})


def test_unknown_paths_and_methods_are_problem_documents(api: TestClient) -> None:
    assert refused(api, 404, "/v1/nothing", json={}).type == "urn:wmtp:problem:not-found"
    answer = api.get("/v1/score")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"


def test_info_and_probes(api: TestClient) -> None:
    info = api.get("/v1/info").json()
    assert info["limits"] == {
        "body_bytes": 100_000,
        "items": 8,
        "item_tokens": 400,
        "request_tokens": 1200,
    }
    assert info["options"]["first_token"] == "zero"
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json()["critic"] == info["critic"]


def test_before_a_critic_is_loaded_the_service_is_alive_and_not_ready(root: Path) -> None:
    client = served(service_config(root))  # not entered: nothing is loaded
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"


def test_statistics_of_a_training_run(root: Path, tmp_path: Path) -> None:
    critic = save_critic(tmp_path, "quickstart", 1, model=root / "model")
    overrides = [f"storage.root={tmp_path}", "name=policy", "weighting.beta=2"]
    policy = load_config(PolicyJobConfig, QUICKSTART / "verifiable.yaml", overrides)
    run = RunDirectory.open(tmp_path, "verifiable", policy)
    run.metrics.write_text(
        '{"step": 1, "ema_mean": 9, "ema_std": 9}\n{"step": 2, "ema_mean": -0.25, "ema_std": 0.5}\n{}\n'
    )
    run.finish({"fingerprints": {"critic": read_manifest(critic, KIND).fingerprint}})
    config = service_config(tmp_path, critic={"statistics_run": "policy"})
    with served(config) as client:
        options = client.get("/v1/info").json()["options"]
        assert (options["credit"], options["lam"], options["beta"]) == ("level", 0, 2)  # as it was trained
        answer = ask(client, [ITEM], statistics="ema")
        assert (answer.statistics.mean, answer.statistics.std) == (-0.25, 0.5)
        given = ask(client, [ITEM], statistics="given", mean=-0.25, std=0.5)
        assert answer.items == given.items
        refused = client.post(
            "/v1/score", json={"items": [ITEM], "options": {"statistics": "ema", "lam": 0.5}}
        )
        assert refused.status_code == 422 and "of advantages with lam 0.0" in refused.json()["detail"]
    run.finish({"fingerprints": {"critic": "another"}})
    with pytest.raises(ConfigError, match="weighted by another critic"), served(config):
        pass


@pytest.mark.parametrize(
    "weighting", [{"gamma": 0.9}, {"rewards": True}, {"beta": 1e-7}, {"max_weight": 2e6}]
)
def test_defaults_that_every_request_would_fail_with_are_refused_at_the_start(
    root: Path, weighting: dict[str, Any]
) -> None:
    with (
        pytest.raises((ConfigError, ValidationError), match="weighting"),
        served(service_config(root, weighting=weighting)),
    ):
        pass


def test_a_packed_batch_that_would_keep_the_model_too_long_is_refused(root: Path, api: TestClient) -> None:
    row = [{"token_ids": encode_array(np.ones(300, dtype=np.int32), "<i4"), "response_start": 1}]
    wanted = {"rows": [row] * 4}
    assert api.post("/v1/values", json=wanted).status_code == 200
    with served(service_config(root, forward_seconds=1e-6)) as client:
        refused = client.post("/v1/values", json=wanted)
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    assert "send smaller batches" in refused.json()["detail"]


def test_a_packed_batch_is_not_refused_by_an_estimate_of_a_bad_moment(root: Path) -> None:
    row = [PackedSample(token_ids=encode_array(np.ones(300, dtype=np.int32), "<i4"), response_start=1)]

    async def ask() -> ValuesAnswer:
        service = ScoringService(NoMeasures())
        await service.configure(service_config(root))
        service.serving.batcher._speed = 1.0
        try:
            return ValuesAnswer.model_validate_json(await service.values(ValuesRequest(rows=[row])))
        finally:
            await service.close()

    assert len(asyncio.run(ask()).values) == 1


def test_a_configuration_without_its_statistics_starts_no_model(root: Path) -> None:
    before = set(threading.enumerate())
    service = ScoringService(NoMeasures())
    with pytest.raises(StorageError, match="statistics_run = 'nowhere'"):
        asyncio.run(service.configure(service_config(root, critic={"statistics_run": "nowhere"})))
    asyncio.run(service.close())
    assert not any(thread.name == "critic" for thread in set(threading.enumerate()) - before)


def test_in_another_dtype_it_is_another_critic(root: Path, api: TestClient) -> None:
    trained = api.get("/v1/info").json()["critic"]
    with served(service_config(root, critic={"dtype": "bfloat16"})) as client:
        other = client.get("/v1/info").json()["critic"]
    assert (trained["dtype"], other["dtype"]) == ("float32", "bfloat16")
    assert trained["fingerprint"] != other["fingerprint"]
