"""Where in programs token weights sit: by Python token class and by tenth of the response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from wmtp_ray.value_weighting.token_classes import DECILES, NUM_CELLS, TOKEN_CLASSES


@dataclass(frozen=True)
class WeightPlaces:
    """Sums over the response tokens of some programs, [classes, deciles] each; add those of several batches."""

    tokens_CD: np.ndarray
    """int64"""
    weights_CD: np.ndarray
    """float64"""

    @classmethod
    def of(cls, weights_RT: Tensor, cells_RT: Tensor) -> WeightPlaces:
        """From weights [R, T] and the cells [R, T] of `token_cells` (−1 where a weight does not count)."""
        kept = cells_RT >= 0
        cells, weights = cells_RT[kept].numpy(), weights_RT[kept].double().numpy()
        shape = (len(TOKEN_CLASSES), DECILES)
        return cls(
            np.bincount(cells, minlength=NUM_CELLS).reshape(shape),
            np.bincount(cells, weights, minlength=NUM_CELLS).reshape(shape),
        )

    def __add__(self, other: WeightPlaces) -> WeightPlaces:
        return WeightPlaces(self.tokens_CD + other.tokens_CD, self.weights_CD + other.weights_CD)

    def relative_by_class(self) -> dict[str, float]:
        """Mean weight of each class that occurs, over the mean weight of all tokens."""
        found = _relative(self.tokens_CD.sum(axis=1), self.weights_CD.sum(axis=1))
        return {name: value for name, value in zip(TOKEN_CLASSES, found, strict=True) if np.isfinite(value)}

    def weight_shares(self) -> dict[str, float]:
        """Share of all weight that each class has."""
        by_class = self.weights_CD.sum(axis=1) / max(float(self.weights_CD.sum()), 1e-12)
        return dict(zip(TOKEN_CLASSES, by_class.tolist(), strict=True))

    def relative_by_decile(self) -> list[float]:
        """Mean weight of each tenth of the response, over the mean weight of all tokens; NaN for one without tokens."""
        return _relative(self.tokens_CD.sum(axis=0), self.weights_CD.sum(axis=0))

    def token_shares(self) -> dict[str, float]:
        """Share of all tokens that each class has."""
        by_class = self.tokens_CD.sum(axis=1) / max(1, self.tokens_CD.sum())
        return dict(zip(TOKEN_CLASSES, by_class.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain lists."""
        return {"tokens": self.tokens_CD.tolist(), "weights": self.weights_CD.tolist()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> WeightPlaces:
        """Inverse of `to_json`."""
        return cls(
            np.array(content["tokens"], dtype=np.int64), np.array(content["weights"], dtype=np.float64)
        )


def _relative(tokens: np.ndarray, weights: np.ndarray) -> list[float]:
    mean = weights.sum() / max(1, tokens.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights / tokens / mean).tolist()
