"""Terminal settings during a live display."""

import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO


@contextmanager
def without_echo(output: IO[str]) -> Iterator[None]:
    """While the block runs, the terminal of `output` (if it is one) does not echo input: even the ^C of Ctrl-C moves
    the cursor, from which a display finds the lines to redraw."""
    before = None
    with suppress(OSError, termios.error):
        if _in_foreground(output):
            before = termios.tcgetattr(output)
            termios.tcsetattr(output, termios.TCSANOW, [*before[:3], before[3] & ~termios.ECHO, *before[4:]])
    try:
        yield
    finally:
        with suppress(OSError, termios.error):
            if before and _in_foreground(output):
                termios.tcsetattr(output, termios.TCSANOW, before)


def _in_foreground(output: IO[str]) -> bool:
    """Whether this process may change its terminal; one in the background would be stopped."""
    return os.tcgetpgrp(output.fileno()) == os.getpgrp()
