"""Where a sampled row comes from: the text of its `provenance`, which a store keeps and anyone can read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class SampleProvenance:
    """One sample that a model wrote and a sandbox judged.

    >>> origin = SampleProvenance("collect-a", "base", "4f2a", 0.8, 0.95, 7, 2, "wrong_answer", 1, 3)
    >>> SampleProvenance.from_text(origin.to_text()) == origin
    True
    """

    run: str
    """The run of `jobs/collect.py`."""
    model: str
    """Its name in the run's configuration."""
    fingerprint: str
    """Of its weights."""
    temperature: float
    top_p: float
    seed: int
    """Of this one sample: what the engine was asked with."""
    sample: int
    """Its number among the samples of its problem."""
    verdict: str
    cases_passed: int
    cases: int

    def to_text(self) -> str:
        """JSON on one line, keys as above."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> SampleProvenance | None:
        """The inverse of `to_text`; None for the provenance of a row that was not sampled."""
        try:
            content = json.loads(text)
        except ValueError:
            return None
        if not isinstance(content, dict) or content.keys() != {field.name for field in fields(cls)}:
            return None
        return cls(**content)
