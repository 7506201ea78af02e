"""The tiny model and store of the training tests."""

from tests.training.conftest import byte_tokenizer, scene, values

__all__ = ["byte_tokenizer", "scene", "values"]
