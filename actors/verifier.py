"""An actor that judges programs in sandboxes. It runs nothing of them itself (`wmtp_ray.evaluation.verify`)."""

from __future__ import annotations

from actors.measures import VerifierMeasures
from wmtp_ray.data.records import Tests
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.probe import Level, Protection, protection
from wmtp_ray.evaluation.verify import Verdict, verify


class VerifierActor:
    """Judges one program at a time, on machines whose sandbox is as good as `required` only."""

    def __init__(self, limits: Limits, fault_retries: int, required: Level = "strict") -> None:
        self._limits = limits
        self._fault_retries = fault_retries
        self._required: Level = required
        self._measures = VerifierMeasures()

    def protection(self) -> Protection:
        """What this actor's machine offers; `SandboxError` if that is less than required."""
        found = protection()
        found.require(self._required)
        return found

    def judge(self, program: str, tests: Tests) -> Verdict:
        """The verdict; after a fault of the sandbox it is tried again, and only then reported as such."""
        self.protection()
        verdict = verify(program, tests, self._limits)
        for _ in range(self._fault_retries):
            if verdict.status != "sandbox_fault":
                break
            verdict = verify(program, tests, self._limits)
        self._measures.judged(verdict)
        return verdict
