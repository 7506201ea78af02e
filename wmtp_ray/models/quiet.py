"""Loading models without progress bars and advice on standard error."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO

from transformers.utils import logging as transformers_logging

_ONE_AT_A_TIME = threading.RLock()
"""What is changed and put back belongs to the whole process."""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Inside, transformers shows no progress bar and logs errors only; afterwards its settings are as before. One
    thread at a time.

    Standard error is swallowed as well: the bar of the GGUF conversion obeys no setting. Errors are raised,
    not printed.
    """
    with _ONE_AT_A_TIME:
        bar = transformers_logging.is_progress_bar_enabled()
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity(logging.ERROR)
        try:
            with redirect_stderr(StringIO()):
                yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bar:
                transformers_logging.enable_progress_bar()
