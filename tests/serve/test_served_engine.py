"""A pool that passes on to the running service gets the values that it would compute itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.batches import packed_and_padded
from wmtp_ray.errors import InfraError
from wmtp_ray.models.score_engine import EngineSettings, load_engine
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage import read_manifest

CPU = torch.device("cpu")


def test_the_service_gives_the_values_of_the_pool(url: str, root: Path) -> None:
    directory = root / "runs" / "critic-quickstart" / "export"
    own = EngineSettings("values", directory, read_manifest(directory, KIND).fingerprint, root / "models")
    batch, _ = packed_and_padded(49152)
    served = load_engine(replace(own, backend="serve", url=url), CPU, 1)
    for found, wanted in zip(served.score(batch), load_engine(own, CPU, 1).score(batch), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(InfraError, match="now serves critic"):
        load_engine(replace(own, backend="serve", url=url, fingerprint="another"), CPU, 1).score(batch)
