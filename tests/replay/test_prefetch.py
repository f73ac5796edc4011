import threading
import time

import pytest

from replay.prefetch import Prefetch

pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_results_come_in_order(depth: int) -> None:
    numbers = iter(range(100))
    with Prefetch(lambda: next(numbers), depth) as prefetch:
        assert [prefetch() for _ in range(50)] == list(range(50))


def test_work_is_done_ahead_but_no_further_than_depth() -> None:
    made: list[int] = []

    def produce() -> int:
        made.append(len(made))
        return made[-1]

    with Prefetch(produce, 2) as prefetch:
        deadline = time.monotonic() + 10
        while len(made) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 3  # two ready, one in the thread's hands
        assert prefetch() == 0


@pytest.mark.parametrize("depth", [0, 2])
def test_an_exception_reaches_the_consumer_after_what_was_ready(depth: int) -> None:
    values = iter([1, 2])
    with Prefetch(lambda: next(values), depth) as prefetch:
        assert (prefetch(), prefetch()) == (1, 2)
        with pytest.raises(StopIteration):
            prefetch()
    if depth:
        with pytest.raises(RuntimeError, match="closed"):
            prefetch()


def test_close_ends_the_thread() -> None:
    before = threading.active_count()
    prefetch = Prefetch(lambda: 1, 2)
    assert prefetch() == 1
    prefetch.close()
    assert threading.active_count() == before


def test_waiting_is_bounded_on_both_sides() -> None:
    release = threading.Event()
    prefetch = Prefetch(lambda: release.wait(20), 1, timeout=0.05)
    with pytest.raises(TimeoutError, match="No batch was ready within 0.05 s"):
        prefetch()
    with pytest.raises(TimeoutError, match="still in its call"):
        prefetch.close(0.05)
    release.set()
    prefetch.close()
    with pytest.raises(ValueError, match="depth is -1"):
        Prefetch(lambda: 1, -1)
