"""What a command prints, when nobody reads it any more: a pipe into `head`, a terminal that was closed."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

_LOST = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a terminal that is gone


class Output:
    """A stream; what is written to it once its reader is lost goes nowhere.

    `hangs_up`: the process then gets the SIGHUP of a closed terminal, for whoever handles its signals knows whether
    there is something to save. A full disk is a ValueError instead.
    """

    def __init__(self, stream: TextIO, *, hangs_up: bool):
        self._stream, self._hangs_up = stream, hangs_up

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what is buffered is still to be written, at the exit at the latest
        os.close(nowhere)
        if not self._hangs_up:
            return
        if error.errno not in _LOST:
            raise ValueError(f"The output cannot be written: {error.strerror}.") from error
        os.kill(os.getpid(), signal.SIGHUP)


@contextmanager
def hanging_up() -> Iterator[None]:
    """While the block runs, losing whoever reads the standard output is a SIGHUP; losing the errors' is nothing."""
    before = sys.stdout, sys.stderr
    if sys.stdout:
        sys.stdout = cast(TextIO, Output(sys.stdout, hangs_up=True))
    if sys.stderr:
        sys.stderr = cast(TextIO, Output(sys.stderr, hangs_up=False))
    try:
        yield
    finally:
        if sys.stdout:
            with suppress(KeyboardInterrupt, ValueError):  # it ends anyway
                sys.stdout.flush()
        sys.stdout, sys.stderr = before
