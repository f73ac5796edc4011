"""The error with which a run of any mode ends when it cannot go on."""

from replay.errors import NexusError


class RunFailedError(NexusError):
    """The run cannot go on; what was learned is saved if that was possible."""
