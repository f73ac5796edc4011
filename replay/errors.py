"""The error that users see as its message alone."""


class NexusError(Exception):
    """The work cannot go on; the message says why and what to do. A command that meets it has exit code 1."""
