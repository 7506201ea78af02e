"""What the service measures; `serve/ray_measures.py` exports it through Ray."""

from __future__ import annotations

from typing import Protocol

from serve.batcher import Forward


class Measures(Protocol):
    """Told of every forward pass and every answer."""

    def forward(self, forward: Forward) -> None:
        """One forward pass of the critic; called on the model's thread."""
        ...

    def answer(self, operation: str, status: int, seconds: float) -> None:
        """One answered request."""
        ...

    async def exposition(self) -> str:
        """All metrics of the cluster as Prometheus text."""
        ...


class NoMeasures:
    """Keeps nothing."""

    def forward(self, forward: Forward) -> None:
        pass

    def answer(self, operation: str, status: int, seconds: float) -> None:
        pass

    async def exposition(self) -> str:
        return ""
