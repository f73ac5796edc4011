"""The end of somebody else's environment: the work is done, so whatever goes wrong there is one warning and no more."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from actors.envs import rendering
from actors.faults import call_outside, described, place_of

PATIENCE = 30.0  # seconds for one close(), which may have a simulator to end
_hung: set[str] = set()
_said: set[str] = set()


class _HungError(BaseException):
    """No Exception, so that an environment that ignores its own errors does not ignore this."""


def close_outside(close: Callable[[], object], task: str) -> None:
    """Call an environment's own `close`. Its errors are said once, with their place; so is that it does not come back,
    after which this task's other environments are left open. Only the main thread can tell that."""
    if task in _hung:
        return
    try:
        with _limited():
            call_outside(close)
    except _HungError as hung:
        _hung.add(task)
        _say(task, hung, f"still busy after {PATIENCE:g} s; the environments of this task are left open")
    except Exception as error:
        _say(task, error, described(error))


def warned() -> int:
    """Warnings about `close` that were said in this process."""
    return len(_said)


def _say(task: str, error: BaseException, what: str) -> None:
    place = place_of(error)
    line = f"warning: {task}, close(){place and ', '}{place}: {what}"
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr)


def say_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """For `sys.unraisablehook`: what somebody else's `__del__` raises is one line; our own keeps its traceback."""
    error = unraisable.exc_value
    if error is not None and rendering.is_about_drawing(error):
        return  # half-made pictures; that nothing draws is said already
    if error is not None and (place := place_of(error)):
        print(f"warning: {place}: {described(error)}", file=sys.stderr)
    else:
        sys.__unraisablehook__(unraisable)


@contextmanager
def _limited() -> Iterator[None]:
    """_HungError if the block lasts longer than PATIENCE; a timer that runs already goes on afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(number: int, frame: FrameType | None) -> None:
        raise _HungError

    began, handler = time.monotonic(), signal.signal(signal.SIGALRM, give_up)
    left, every = signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - (time.monotonic() - began)), every)
