"""Work in a thread beside what a test does, and waiting for what it brings about."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[threading.Event]:
    """Repeats `work` in a thread until the block ends; what it raises is raised here."""
    stop, failed = threading.Event(), list[BaseException]()

    def repeat() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


@contextmanager
def meanwhile_once(work: Callable[[], object]) -> Iterator[list[object]]:
    """Has `work` done in a thread beside the block; at its end the list holds what it returned."""
    returned, failed = list[object](), list[BaseException]()

    def once() -> None:
        try:
            returned.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=once)
    thread.start()
    try:
        yield returned
    finally:
        thread.join(100)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def progress(made: Callable[[], bool], timeout: float = 200.0) -> None:
    deadline = time.monotonic() + timeout
    while not made():
        assert time.monotonic() < deadline, f"no progress within {timeout:g} s"
        time.sleep(0.01)
