"""Handles Ctrl-C, SIGTERM and SIGHUP: by ending a command, or by asking a run to save first."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AWAY = 2.0  # seconds after which a call counts as waiting for something that is down


def _signals() -> list[signal.Signals]:
    """The signals to handle; a SIGHUP ignored because of nohup stays ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


@contextmanager
def ending_on_signals() -> Iterator[list[int]]:
    """The first signal raises KeyboardInterrupt; later ones are only added to the list, so that cleanup can finish."""
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
    """The first signal sets `asked`. A second one raises KeyboardInterrupt, and so does the first during a long wait,
    when nobody checks `asked` and nothing can be saved; later ones are ignored, so that cleanup can finish. SIGHUP
    never counts as the second, since a closed terminal sends several (from its shell and from the kernel)."""

    def __init__(self) -> None:
        self.asked = False
        self._pressed = 0
        self._insisted = False
        self._waits_since = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The block may wait for something that is down."""
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
        """Handle the signals while the block runs (main thread only)."""

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
