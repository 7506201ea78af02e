"""Sampling problems, judging programs in a sandbox, pass@k with intervals."""

from wmtp_ray.evaluation.estimator import pass_at_k

__all__ = ["pass_at_k"]
