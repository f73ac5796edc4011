import threading
import time

import pytest

from replay.prefetch import Prefetch


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_results_come_in_order(depth: int) -> None:
    def produce(number: int) -> int:
        time.sleep(0.002 if number % 3 == 0 else 0)  # the next one is ready earlier
        return number

    with Prefetch(produce, 7, depth) as prefetch:
        assert [prefetch() for _ in range(50)] == list(range(7, 57))


def test_work_is_done_ahead_but_no_further_than_depth() -> None:
    made: list[int] = []

    def produce(number: int) -> int:
        made.append(number)
        return number

    with Prefetch(produce, 0, 3) as prefetch:
        for taken in range(3):
            deadline = time.monotonic() + 60
            while len(made) < taken + 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.05)
            assert sorted(made) == list(range(taken + 3))
            assert prefetch() == taken


@pytest.mark.parametrize("depth", [0, 2])
def test_an_exception_reaches_the_consumer_after_what_was_ready(depth: int) -> None:
    with Prefetch([1, 2].__getitem__, 0, depth) as prefetch:
        assert (prefetch(), prefetch()) == (1, 2)
        with pytest.raises(IndexError):
            prefetch()
    if depth:
        with pytest.raises(RuntimeError, match="closed"):
            prefetch()


def test_close_ends_the_thread() -> None:
    before = threading.active_count()
    prefetch = Prefetch(lambda number: 1)
    assert prefetch() == 1
    prefetch.close()
    assert threading.active_count() == before


def test_waiting_is_bounded_on_both_sides() -> None:
    begun, release = threading.Event(), threading.Event()

    def produce(number: int) -> bool:
        begun.set()
        return release.wait(300)

    prefetch = Prefetch(produce, 0, 1, timeout=0.05)
    with pytest.raises(TimeoutError, match="No batch was ready within 0.05 s"):
        prefetch()
    assert begun.wait(300)
    with pytest.raises(TimeoutError, match="still in its call"):
        prefetch.close(0.05)
    release.set()
    prefetch.close(60)
    with pytest.raises(ValueError, match="depth is -1"):
        Prefetch(lambda number: 1, 0, -1)
