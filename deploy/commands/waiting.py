"""Waiting for a run to do what it was asked, with progress on standard error."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.stored.control import active
from deploy.stored.run_status import read_status

LINE = 5.0  # seconds between lines of progress
POLL = 0.2


class Progress:
    """Prints what is being waited for, once every few seconds."""

    def __init__(self, what: str):
        self._what, self._next = what, LINE

    def __call__(self, waited: float) -> None:
        if waited >= self._next:
            self._next = waited + LINE
            print(f"waiting for {self._what}, {waited:.0f} s", file=sys.stderr, flush=True)


def wait_until(done: Callable[[], str], logdir: Path, what: Callable[[], str], timeout: float) -> str:
    """Wait until `done` returns a text, which is returned; empty if that takes longer than `timeout` seconds or the run
    ends before."""
    begun, told = time.monotonic(), LINE
    while True:
        if text := done():
            return text
        waited = time.monotonic() - begun
        if waited > timeout or not active(logdir):
            return done()
        if waited >= told:
            told = waited + LINE
            print(f"{what()}, {waited:.0f} s", file=sys.stderr, flush=True)
        time.sleep(POLL)


def state_of(logdir: Path) -> str:
    """The state of a run, in a word."""
    return str(read_status(logdir).get("state", "unknown"))
