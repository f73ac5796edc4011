"""Ctrl-C, SIGTERM and a terminal that hangs up: as the end of a command, and as a wish to save first."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AWAY = 2.0  # seconds after which a call waits for somebody who is away


def _signals() -> list[signal.Signals]:
    """Those to take over; what nohup has it ignore stays ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


@contextmanager
def ending_on_signals() -> Iterator[list[int]]:
    """The first signal raises KeyboardInterrupt and is in the list; those after it leave the cleaning up alone."""
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in _signals()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if received else handler)


class Interrupt:
    """`asked` turns true at the first signal. A second one raises KeyboardInterrupt, and so does the first during a
    long wait, for then nobody looks at `asked` and nothing can be saved; further ones leave the cleaning up alone.
    A terminal hangs up more than once (its shell and the system say so): that makes no second one."""

    def __init__(self) -> None:
        self.asked = False
        self._pressed = 0
        self._insisted = False
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
            if self._insisted:
                return
            self._pressed += number != signal.SIGHUP
            if self._pressed > 1 or stuck:
                self._insisted = True
                raise KeyboardInterrupt
            self.asked = True

        before = {number: signal.signal(number, ask) for number in _signals()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
