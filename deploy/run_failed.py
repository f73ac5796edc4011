"""The error with which a run of any mode ends when it cannot go on. Exit code 1, where wrong arguments have 2."""


class RunFailedError(RuntimeError):
    """The run cannot go on; the message says why and what to do."""
