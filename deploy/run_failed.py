"""The error that ends a run, in any mode, that cannot continue."""

from replay.errors import NexusError


class RunFailedError(NexusError):
    """The run cannot continue; progress has been saved if possible."""
