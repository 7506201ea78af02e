"""One hierarchy of exceptions, each also a standard type, each picklable (Ray sends them between processes).

Every message names the value, the place it came from and the remedy. Jobs print it as one line and exit with a code
other than 0; anything that is not a `WMTPError` is a bug and keeps its traceback.
"""

from __future__ import annotations


class WMTPError(Exception):
    """Base of everything that a user can mend. Built from one message only, so that it survives pickling."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ConfigError(WMTPError, ValueError):
    """A configuration value is unknown, out of range, or contradicts another."""


class DataError(WMTPError, ValueError):
    """An input row, sample or batch is unusable. Names the sample; never retried."""


class ModelError(WMTPError, ValueError):
    """A model, tokenizer or model file is missing, damaged or does not fit."""


class StorageError(WMTPError, OSError):
    """A store, checkpoint or run directory is missing, incomplete or damaged."""


class SandboxError(WMTPError, RuntimeError):
    """This machine cannot isolate untrusted programs as the configuration requires."""


class InfraError(WMTPError, RuntimeError):
    """A process, actor or node failed. The work itself may be retried elsewhere."""


class StoppedError(WMTPError, RuntimeError):
    """The job was asked to stop and did; the same command goes on with it."""
