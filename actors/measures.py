"""What the actors count of their own work, in Ray's metrics: each node exports it as `ray_wmtp_...`, for Prometheus."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from wmtp_ray.evaluation.sampling import Completion
from wmtp_ray.evaluation.verify import Verdict

_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]


class CriticMeasures:
    """Of one actor of a pool of frozen models; `scored` is `values` or `reference_losses`."""

    def __init__(self, scored: str) -> None:
        self._tags = {"scored": scored}
        self._samples = Counter(
            "wmtp_critic_samples", "Samples that were asked for, cached or not.", ("scored",)
        )
        self._forwards = Counter("wmtp_critic_forwards", "Micro-batches through the model.", ("scored",))
        self._tokens = Counter("wmtp_critic_tokens", "Tokens through the model, with padding.", ("scored",))
        self._busy = Counter("wmtp_critic_busy_seconds", "Time spent in the model.", ("scored",))

    def asked(self, samples: int) -> None:
        """For the scores of so many samples."""
        self._samples.inc(samples, self._tags)

    def forward(self, tokens: int, seconds: float) -> None:
        """One micro-batch went through the model."""
        self._forwards.inc(1, self._tags)
        self._tokens.inc(tokens, self._tags)
        self._busy.inc(seconds, self._tags)


class CacheMeasures:
    """Of one run's score cache."""

    def __init__(self) -> None:
        self._lookups = Counter(
            "wmtp_cache_lookups", "Scores looked up, by outcome: hit or miss.", ("outcome",)
        )
        self._bytes = Gauge("wmtp_cache_bytes", "Disk that the scores take, of all runs that share the file.")

    def looked_up(self, hits: int, misses: int) -> None:
        """So many scores, found and not found."""
        for outcome, count in (("hit", hits), ("miss", misses)):
            if count:  # a counter takes no 0
                self._lookups.inc(count, {"outcome": outcome})

    def takes(self, used_bytes: int) -> None:
        """After a write."""
        self._bytes.set(used_bytes)


class SamplerMeasures:
    """Of one sampling engine."""

    def __init__(self) -> None:
        self._completions = Counter(
            "wmtp_sampler_completions", "Finished samples; cut = by max_tokens.", ("cut",)
        )
        self._tokens = Counter("wmtp_sampler_tokens", "Tokens of finished samples.")
        self._open = Gauge("wmtp_sampler_open", "Samples that the engine still has to finish.")

    def finished(self, completion: Completion, still_open: int) -> None:
        """One sample; `still_open` others of the same call are not."""
        self._completions.inc(1, {"cut": str(completion.cut).lower()})
        if completion.tokens:
            self._tokens.inc(completion.tokens)
        self._open.set(still_open)


class VerifierMeasures:
    """Of one verifier."""

    def __init__(self) -> None:
        self._verdicts = Counter("wmtp_verifier_verdicts", "Judged programs, by verdict.", ("status",))
        self._seconds = Histogram(
            "wmtp_verifier_seconds", "Time that judging a program took.", boundaries=_SECONDS
        )

    def judged(self, verdict: Verdict) -> None:
        """The verdict that is reported."""
        self._verdicts.inc(1, {"status": verdict.status})
        self._seconds.observe(verdict.seconds)
