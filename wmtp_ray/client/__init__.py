"""Asking a running critic service: `ScoreClient`, and the requests and answers that go over the wire."""

from wmtp_ray.client.score_client import ScoreClient, ServiceRefusal
from wmtp_ray.client.wire import (
    InstructionItem,
    Item,
    ItemScore,
    Options,
    PromptItem,
    RankAnswer,
    ScoreAnswer,
    TokenItem,
    TokenScore,
)

__all__ = [
    "InstructionItem",
    "Item",
    "ItemScore",
    "Options",
    "PromptItem",
    "RankAnswer",
    "ScoreAnswer",
    "ScoreClient",
    "ServiceRefusal",
    "TokenItem",
    "TokenScore",
]
