"""What a verifier makes of a fault of the sandbox. The actors themselves run in the test of the evaluation job."""

from __future__ import annotations

import pytest

from actors.verifier import VerifierActor
from wmtp_ray.data.records import Case, Tests
from wmtp_ray.evaluation import sandbox
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.sandbox import Isolation

TESTS = Tests("call", cases=(Case("f(1)", "2"),))


@pytest.mark.parametrize(("faults", "status"), [(0, "passed"), (2, "passed"), (3, "sandbox_fault")])
def test_a_fault_is_tried_again_and_then_reported(
    monkeypatch: pytest.MonkeyPatch, faults: int, status: str
) -> None:
    verifier = VerifierActor(Limits(), fault_retries=2)
    assert verifier.protection().level == "strict"
    command, starts = sandbox._command, []

    def failing_at_first(kind: Isolation, tmp_mb: int) -> tuple[str, ...]:
        bwrap, *arguments = command(kind, tmp_mb)
        starts.append(1)
        impossible = ("--ro-bind", "/no/such/place", "/x") if len(starts) <= faults else ()
        return (bwrap, *impossible, *arguments)

    monkeypatch.setattr(sandbox, "_command", failing_at_first)
    verdict = verifier.judge("def f(x):\n    return x + 1", TESTS)
    assert verdict.status == status and len(starts) == min(faults, 2) + 1
