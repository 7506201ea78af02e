"""What an actor answered, with the user's mistakes as themselves."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayTaskError

from wmtp_ray.errors import WMTPError


def answer(reference: Any) -> Any:
    """`ray.get`; a `WMTPError` that the actor raised is raised here, not wrapped in Ray's own."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, WMTPError):
            raise error.cause from None
        raise
