"""The error that is shown to users as its message only."""


class NexusError(Exception):
    """The work cannot continue; the message says why and what to do. The command then exits with code 1."""
