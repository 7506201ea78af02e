"""Where weights sit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wmtp_ray.value_weighting.places import WeightPlaces
from wmtp_ray.value_weighting.token_classes import DECILES, TOKEN_CLASSES

NAME, KEYWORD = TOKEN_CLASSES.index("name") * DECILES, TOKEN_CLASSES.index("keyword") * DECILES


def test_weights_are_added_up_by_class_and_tenth() -> None:
    cells = torch.tensor([[-1, NAME, NAME + 9, KEYWORD]])
    weights = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    places = WeightPlaces.of(weights, cells)
    assert places.relative_by_class() == pytest.approx({"name": 0.75, "keyword": 1.5})
    by_decile = places.relative_by_decile()
    assert (by_decile[0], by_decile[9]) == pytest.approx((1.0, 1.0)) and np.isnan(by_decile[4])
    assert places.token_shares()["name"] == pytest.approx(2 / 3)
    assert places.weight_shares()["name"] == pytest.approx(0.5)


def test_batches_add_up_and_survive_json() -> None:
    generator = torch.Generator().manual_seed(1)
    cells = torch.randint(-1, len(TOKEN_CLASSES) * DECILES, (6, 40), generator=generator)
    weights = torch.rand(6, 40, generator=generator)
    whole = WeightPlaces.of(weights, cells)
    parts = WeightPlaces.of(weights[:2], cells[:2]) + WeightPlaces.of(weights[2:], cells[2:])
    again = WeightPlaces.from_json(parts.to_json())
    assert (again.tokens_CD == whole.tokens_CD).all() and np.allclose(again.weights_CD, whole.weights_CD)
    assert whole.weights_CD.sum() == pytest.approx(float(weights[cells >= 0].sum()))
