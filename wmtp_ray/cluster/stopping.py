"""What SIGTERM means to a job: `ray job stop` sends it, too."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_sigterm(ask: Callable[[], None]) -> Iterator[None]:
    """Inside, the first SIGTERM calls `ask`, and a second one ends the job at once. Threads get no signals: where
    several runs have one each, whoever starts them asks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        ask()

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
