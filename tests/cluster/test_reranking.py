"""Re-ranking by a pool of actors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.cluster.reranking import ahead


@given(st.integers(0, 20), st.integers(1, 8))
def test_no_more_calls_are_under_way_than_allowed(calls: int, most: int) -> None:
    made: list[int] = []
    for done, taken in enumerate(ahead((made.append(n) or n for n in range(calls)), most)):
        assert taken == done and len(made) == min(done + most, calls)
    assert made == list(range(calls))
