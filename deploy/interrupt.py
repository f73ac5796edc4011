"""Ctrl-C and SIGTERM as a wish to save and end."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AWAY = 2.0  # seconds after which a call waits for somebody who is away


class Interrupt:
    """`asked` turns true at the first signal; a second one ends the program at once, and so does the first during a
    long wait, for then nobody looks at `asked` and nothing can be saved."""

    def __init__(self) -> None:
        self.asked = False
        self._waits_since = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The block may wait for somebody who is away."""
        if self._waits_since or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._waits_since = time.monotonic()
        try:
            yield
        finally:
            self._waits_since = 0.0

    @contextmanager
    def listening(self) -> Iterator["Interrupt"]:
        """Take the signals over while the block runs (main thread only)."""

        def ask(number: int, frame: FrameType | None) -> None:
            stuck = self._waits_since and time.monotonic() - self._waits_since > _AWAY
            if self.asked or stuck:
                raise KeyboardInterrupt
            self.asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
