"""Closing third-party environments: the work is done by then, so any failure is reported as one warning."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from actors.environment import Environment
from actors.envs import rendering
from actors.faults import call_outside, described, place_of
from actors.pool import Pool

PATIENCE = 30.0  # seconds for one close(), which may have to stop a simulator
_hung: set[str] = set()
_said: set[str] = set()


class _HungError(BaseException):
    """Not an Exception, so that an environment that swallows its own errors does not swallow this one."""


def close_outside(close: Callable[[], object], task: str) -> None:
    """Call an environment's own `close`. An error is reported once, with its location. A call that does not return is
    reported too (from the main thread only), and the task's other environments are then left open."""
    if task in _hung:
        return
    try:
        with _limited():
            call_outside(close)
    except _HungError as hung:
        _hung.add(task)
        _say(task, hung, f"did not return within {PATIENCE:g} s; the environments of this task are left open")
    except Exception as error:
        _say(task, error, described(error))


def close_anyway(environment: Environment | Pool, name: str) -> None:
    """Close an environment; an error is one warning that begins with `name`, so that it hides no earlier error and
    keeps none of the others from being closed."""
    try:
        environment.close()
    except Exception as error:
        _say(name, error, described(error))


def hangs(task: str) -> bool:
    """Whether closing an environment of the task has not returned before."""
    return task in _hung


def give_up(task: str) -> None:
    """Close no further environment of the task."""
    _hung.add(task)


def warnings() -> list[str]:
    """The warnings about `close` in this process."""
    return sorted(_said)


def warned() -> int:
    """Their number."""
    return len(_said)


def _say(task: str, error: BaseException, what: str) -> None:
    place = place_of(error)
    warn(f"warning: {task}, close(){place and ', '}{place}: {what}")


def warn(line: str) -> None:
    """Print a warning about `close`, once in this process."""
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr)


def say_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """For `sys.unraisablehook`: an error in a third-party `__del__` becomes one line; ours keep their traceback."""
    error = unraisable.exc_value
    if error is not None and rendering.is_about_drawing(error):
        return  # from a half-built renderer; that rendering fails has been reported already
    if error is not None and (place := place_of(error)):
        print(f"warning: {place}: {described(error)}", file=sys.stderr)
    else:
        sys.__unraisablehook__(unraisable)


@contextmanager
def _limited() -> Iterator[None]:
    """Raises _HungError if the block takes longer than PATIENCE; an already running timer is resumed afterwards."""
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
