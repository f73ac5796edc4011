"""Commands whose output nobody reads any more."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout

import pytest
from rich.console import Console

from deploy.interrupt import Interrupt, ending_on_signals
from deploy.output import hanging_up


def _pipe() -> io.TextIOWrapper:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w")


def _terminal() -> io.TextIOWrapper:
    ours, its = os.openpty()
    os.close(ours)
    return open(its, "w")


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A command that was ended leaves signals ignored, and the tests after it must have them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(params=[_pipe, _terminal])
def lost(request: pytest.FixtureRequest) -> Iterator[io.TextIOWrapper]:
    """A stream whose reader is gone."""
    make: Callable[[], io.TextIOWrapper] = request.param
    with make() as stream:
        yield stream


def test_a_command_ends_and_may_clean_up(lost: io.TextIOWrapper) -> None:
    with ending_on_signals() as signals, redirect_stdout(lost), hanging_up():
        with pytest.raises(KeyboardInterrupt):
            print("is read by nobody", flush=True)
        Console().print("nor is this")
    assert signals == [signal.SIGHUP]


def test_a_run_is_asked_to_save_however_often_it_prints(lost: io.TextIOWrapper) -> None:
    interrupt = Interrupt()
    with redirect_stdout(lost), hanging_up(), interrupt.listening():
        for _ in range(2):
            Console().print("is read by nobody")
        assert interrupt.asked
        os.kill(os.getpid(), signal.SIGHUP)  # from the shell of a terminal that is closed, and from the system
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_under_nohup_the_loss_of_a_terminal_changes_nothing(lost: io.TextIOWrapper) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt = Interrupt()
    with ending_on_signals() as signals, redirect_stdout(lost), hanging_up(), interrupt.listening():
        print("is read by nobody", flush=True)
        os.kill(os.getpid(), signal.SIGHUP)
    assert not interrupt.asked and not signals
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
