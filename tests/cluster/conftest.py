"""What the tests of this room share."""

from __future__ import annotations

from tests.data.conftest import byte_tokenizer

__all__ = ["byte_tokenizer"]
