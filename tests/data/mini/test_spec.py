from __future__ import annotations

from typing import Any

import pytest

from tests.data.mini.samples import COUNT_ABOVE
from wmtp_ray.data.sources.mini.spec import problem
from wmtp_ray.errors import DataError

GOOD: dict[str, Any] = {
    "name": "f",
    "statement": "Write `f(x)`\n        that returns `x`.",
    "references": ["\n    def f(x):\n        return x\n", "def f(x):\n    y = x\n    return y"],
    "cases": [(str(n), str(n)) for n in range(6)],
    "generate": lambda rng: (rng.randint(0, 9),),
}


def test_texts_are_dedented():
    made = problem(**GOOD)
    assert made.statement == "Write `f(x)` that returns `x`."
    assert made.references == ("def f(x):\n    return x\n", "def f(x):\n    y = x\n    return y\n")
    assert COUNT_ABOVE.difficulty == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "not a name"}, "identifier"),
        ({"statement": "Return it."}, "does not name the function"),
        ({"references": ["def f(x):\n    return x"]}, "2 or more different references"),
        ({"references": ["def f(x):\n    return x", "def f(x) return"]}, "reference 1 does not parse"),
        ({"references": ["def f(x):\n    return x", "def g(x):\n    return x"]}, r"does not define f\(\)"),
        ({"cases": [("1", "1")] * 6}, "6 or more different cases"),
        ({"cases": [*GOOD["cases"], ("7", "g(7)")]}, r"case \('7', 'g\(7\)'\)"),
        ({"cases": [*GOOD["cases"], ("7)", "7")]}, "case"),
        ({"difficulty": 6}, "outside 1..5"),
    ],
)
def test_malformed_problems_are_refused_by_name(change: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message) as caught:
        problem(**(GOOD | change))
    assert repr(change.get("name", "f")) in str(caught.value)
