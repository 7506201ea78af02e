"""What a task or an actor answered, with the user's mistakes as themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayTaskError

from wmtp_ray.errors import WMTPError


@contextmanager
def own_errors() -> Iterator[None]:
    """A `WMTPError` that a task or actor raised is raised here in its own one line, not wrapped in Ray's error, nor
    with the lines that Ray Data adds to it."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, WMTPError):
            raise type(error.cause)(str(error.cause).splitlines()[0]) from None
        raise


def answer(reference: Any) -> Any:
    """`ray.get` with `own_errors`."""
    with own_errors():
        return ray.get(reference)
