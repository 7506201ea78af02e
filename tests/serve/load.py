"""Many clients at once, each of which knows what it must be answered."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field

from wmtp_ray.client import Options, PromptItem, ScoreClient
from wmtp_ray.client.wire import ScoreAnswer

GIVEN = Options(statistics="given", mean=0.0, std=1.0)


@dataclass
class Seen:
    """What the clients met."""

    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    critics: Counter[str] = field(default_factory=Counter)


def text_of(number: int) -> str:
    """A response that no other number has, of 5 to 60 tokens."""
    return f"x{number} = {number}\n" + "y += 1\n" * (number % 10)


class Clients:
    """Threads with the stock client; each answer is compared with the text and values known to be right."""

    def __init__(
        self, url: str, expected: dict[str, dict[int, list[float]]], threads: int = 8, patience: float = 120
    ) -> None:
        self.seen, self._lock, self._stop = Seen(), threading.Lock(), threading.Event()
        self._url, self._expected, self._patience = url, expected, patience
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(threads)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        numbers = random.Random(seed)
        known = list(next(iter(self._expected.values())))
        with ScoreClient(self._url, patience=self._patience) as client:
            while not self._stop.is_set():
                mine = numbers.choices(known, k=numbers.randint(1, 4))
                try:
                    answer = client.score([item(n) for n in mine], GIVEN)
                except Exception as error:  # whatever a client meets is what this counts
                    with self._lock:
                        self.seen.wrong.append(repr(error))
                    continue
                with self._lock:
                    self._check(mine, answer)

    def _check(self, mine: list[int], answer: ScoreAnswer) -> None:
        self.seen.answered += 1
        self.seen.critics[answer.critic.fingerprint] += 1
        values = self._expected[answer.critic.fingerprint]
        for number, scored in zip(mine, answer.items, strict=True):
            found = [token.value for token in scored.tokens]
            far = max(abs(a - b) for a, b in zip(found, values[number], strict=True))
            if scored.response != text_of(number) or far > 1e-4:
                self.seen.wrong.append(f"{number} was answered {scored.response!r}, values off by {far}")


def item(number: int) -> PromptItem:
    return PromptItem(prompt=f"Task {number}:\n", response=text_of(number))
