"""Produces batches ahead of time in background threads, so that their consumer does not wait."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
_THREADS = 2  # so that a distant shard has the next request while its last answer is still in transit


class Prefetch(Generic[T]):
    """Results of `produce(number)` for number = first, first + 1, ..., in this order, up to `depth` of them ahead of
    time and two at once; with depth 0 each is produced on request.

    An exception is raised by the call for its number. Use as a context manager, or close().
    """

    def __init__(self, produce: Callable[[int], T], first: int = 0, depth: int = 2, timeout: float = 600.0) -> None:
        if depth < 0:
            raise ValueError(f"Prefetch depth is {depth} but must be at least 0 (none).")
        self._produce, self._depth, self._timeout = produce, depth, timeout
        self._ready: dict[int, tuple[T | None, BaseException | None]] = {}
        self._begun = self._taken = first  # numbers
        self._stopped = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"replay-prefetch-{i}", daemon=True)
            for i in range(min(depth, _THREADS))
        ]
        for thread in self._threads:
            thread.start()

    def __call__(self) -> T:
        if not self._depth:
            self._taken += 1
            return self._produce(self._taken - 1)
        with self._changed:
            number = self._taken
            if not self._changed.wait_for(lambda: number in self._ready or self._stopped, self._timeout):
                raise TimeoutError(f"No batch was ready within {self._timeout:g} s; is replay stuck?")
            if self._stopped:
                raise RuntimeError("Prefetch was closed; make a new one.")
            result, error = self._ready.pop(number)
            self._taken += 1
            if error is not None:
                self._stopped = True
            self._changed.notify_all()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def close(self, timeout: float = 10.0) -> None:
        """Stop the threads. Raises TimeoutError if `produce()` does not return in time."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)
            if thread.is_alive():
                raise TimeoutError(f"A prefetch thread is still in its call after {timeout:g} s.")

    def __enter__(self) -> "Prefetch[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._begun < self._taken + self._depth)
                if self._stopped:
                    return
                number = self._begun
                self._begun += 1
            result: tuple[T | None, BaseException | None]
            try:
                result = self._produce(number), None
            except BaseException as error:  # whatever it is, the consumer must see it
                result = None, error
            with self._changed:
                self._ready[number] = result
                self._changed.notify_all()
