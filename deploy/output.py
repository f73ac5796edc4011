"""Standard output and errors whose reader is gone: a pipe into `head`, a closed terminal."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

_LOST = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a closed terminal


class Output:
    """A stream that discards everything written after its reader is gone.

    With `hangs_up` the process then gets SIGHUP, as from a closed terminal, since its signal handler knows whether
    there is something to save. Other failures, such as a full disk, raise ValueError instead.
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
        os.dup2(nowhere, self._stream.fileno())  # buffered text is still to be written, at exit at the latest
        os.close(nowhere)
        if not self._hangs_up:
            return
        if error.errno not in _LOST:
            raise ValueError(f"The output cannot be written: {error.strerror}.") from error
        os.kill(os.getpid(), signal.SIGHUP)


@contextmanager
def hanging_up() -> Iterator[None]:
    """While the block runs, losing the reader of standard output sends SIGHUP; that of standard error may be lost."""
    before = sys.stdout, sys.stderr
    if sys.stdout:
        sys.stdout = cast(TextIO, Output(sys.stdout, hangs_up=True))
    if sys.stderr:
        sys.stderr = cast(TextIO, Output(sys.stderr, hangs_up=False))
    try:
        yield
    finally:
        if sys.stdout:
            with suppress(KeyboardInterrupt, ValueError):  # the process is ending anyway
                sys.stdout.flush()
        sys.stdout, sys.stderr = before
