"""Makes batches ahead, in a thread of its own, so that their consumer need not wait for them."""

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Results of `produce()`, up to `depth` of them made ahead by a thread; depth 0 calls it when asked.

    An exception in the thread is raised by the next call. Use as a context manager, or close().
    """

    def __init__(self, produce: Callable[[], T], depth: int = 2, timeout: float = 600.0) -> None:
        if depth < 0:
            raise ValueError(f"Prefetch depth is {depth}, allowed 0 (none) or more.")
        self._produce, self._timeout = produce, timeout
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(max(1, depth))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="replay-prefetch", daemon=True) if depth else None
        if self._thread:
            self._thread.start()

    def __call__(self) -> T:
        if self._thread is None:
            return self._produce()
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                result, error = self._ready.get(timeout=0.2)
                break
            except queue.Empty:
                if self._stopped.is_set():
                    raise RuntimeError("Prefetch was closed; make a new one.") from None
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"No batch was ready within {self._timeout:g} s; is replay stuck?") from None
        if error is not None:
            self._stopped.set()
            raise error
        return result  # type: ignore[return-value]

    def close(self, timeout: float = 10.0) -> None:
        """Stop the thread; TimeoutError: `produce()` did not return in time."""
        self._stopped.set()
        if self._thread:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"The prefetch thread is still in its call after {timeout:g} s.")

    def __enter__(self) -> "Prefetch[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while not self._stopped.is_set():
            result: tuple[T | None, BaseException | None]
            try:
                result = self._produce(), None
            except BaseException as error:  # whatever it is, the consumer has to see it
                result = None, error
            while not self._stopped.is_set():
                try:
                    self._ready.put(result, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if result[1] is not None:
                return
