"""Whatever the OpenAPI document allows, or does not: no 5xx, nothing that the document does not describe."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serve.api import build_api
from serve.measures import NoMeasures
from serve.service import ScoringService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


DOCUMENT = build_api(ScoringService(NoMeasures())).openapi()
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_keeps_to_its_description(
    url: str, path: str, method: str, mode: GenerationMode
) -> None:
    # Not through schemathesis' own pytest plugin, which does not know pytest 9.2.
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")[path][method.upper()]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def keeps(case: schemathesis.Case) -> None:
        # What a schema cannot say (tokens of a text, the model's vocabulary) may be refused with 422.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    try:
        keeps()
    except Unsatisfiable:
        pytest.skip("nothing that the document forbids can be sent")


HOSTILE = [
    "\x00",
    "\x00" * 300,
    "\ufffe\uffff",
    "\u202e\u200b\u2066",
    "👩‍👩‍👧‍👦" * 50,
    "\U0010ffff",
    "<|im_start|><|im_end|><|endoftext|>",
    "{input}{instruction}%s",
    " " * 1000,
    "\r\n\t\v\f\u0085\u2028",
    "a" * 3000,
    "ـ" * 500,
    "e\u0301" * 200,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_scored_or_refused(url: str, text: str) -> None:
    for item in ({"instruction": text, "input": text, "response": text}, {"prompt": "x", "response": text}):
        answer = httpx.post(f"{url}/v1/score", json={"items": [item]}, timeout=60)
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 200:
            (scored,) = answer.json()["items"]
            assert "".join(token["piece"] for token in scored["tokens"]) == scored["response"] == text
