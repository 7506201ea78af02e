"""One store and one tiny model for all tests of training."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from tests.data.conftest import byte_tokenizer
from tests.training.scenes import Scene, Values, make_scene

__all__ = ["byte_tokenizer"]


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"), byte_tokenizer)


@pytest.fixture(scope="session")
def values(scene: Scene) -> Values:
    return Values(scene)
