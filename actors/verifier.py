"""An actor that judges programs in sandboxes. It runs nothing of them itself (`wmtp_ray.evaluation.verify`)."""

from __future__ import annotations

from wmtp_ray.data.records import Tests
from wmtp_ray.evaluation.sandbox import Limits, isolation
from wmtp_ray.evaluation.verify import Verdict, verify


class VerifierActor:
    """Judges one program at a time. A machine that cannot isolate is refused when the actor starts."""

    def __init__(self, limits: Limits, fault_retries: int) -> None:
        self._limits = limits
        self._fault_retries = fault_retries
        self._isolation = isolation()

    def isolation(self) -> str:
        """How this actor's machine isolates."""
        return self._isolation

    def judge(self, program: str, tests: Tests) -> Verdict:
        """The verdict; after a fault of the sandbox it is tried again, and only then reported as such."""
        verdict = verify(program, tests, self._limits)
        for _ in range(self._fault_retries):
            if verdict.status != "sandbox_fault":
                break
            verdict = verify(program, tests, self._limits)
        return verdict
