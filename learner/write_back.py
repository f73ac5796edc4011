"""Writes what updates found back to replay, at once or on a thread of its own."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from replay.errors import NexusError
from replay.store import Store

SECONDS = 300.0
"""For one batch's latents to be written: shards that restart take a while."""


class WriteBackError(NexusError, ConnectionError):
    """Latents could not be written back in time."""


class WriteBack:
    """Latents of training steps, and their priorities where there are any.

    With `behind` 0 a call returns when they are written. Otherwise a thread writes them, in order, and a call waits
    only if more than `behind` batches are on their way; an error of the thread comes with a later call.
    """

    def __init__(
        self, store: Store, behind: int = 0, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ):
        """`waiting` is entered while replay is waited for."""
        self.store, self.behind, self._waiting = store, behind, waiting
        self._thread = ThreadPoolExecutor(1, "write-back") if behind else None
        self._pending: deque[Future[None]] = deque()
        self._given_up = False

    def __call__(
        self, keys: np.ndarray, latents: dict[str, np.ndarray], priority: np.ndarray | None = None
    ) -> None:  # fmt: skip
        """`keys` and arrays as `Store.write_back` and `Store.set_priority` take them, which nobody changes any more."""
        if self._thread is None:
            with self._waiting():
                self._write(keys, latents, priority)
            return
        self._pending.append(self._thread.submit(self._write, keys, latents, priority))
        self.settle(self.behind)

    def settle(self, behind: int = 0) -> None:
        """Wait until at most `behind` batches are on their way. WriteBackError: that took too long."""
        while len(self._pending) > behind:
            future = self._pending.popleft()
            try:
                with self._waiting():
                    future.result(SECONDS)
            except TimeoutError as error:
                if future.done():  # the store's own
                    raise
                raise WriteBackError(
                    f"Replay has not taken the latents of one batch within {SECONDS:g} s; see the logs of its shards."
                ) from error

    def give_up(self) -> None:
        """From now on nobody needs latents: drop those to come, and what goes wrong with those on their way."""
        self._given_up = True

    def close(self) -> None:
        """Give up what is not written yet; close the store first if it may hang."""
        self.give_up()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _write(self, keys: np.ndarray, latents: dict[str, np.ndarray], priority: np.ndarray | None) -> None:
        if self._given_up:
            return
        try:
            self.store.write_back(keys, latents)
            if priority is not None:
                self.store.set_priority(keys, priority)
        except (NexusError, OSError):
            if not self._given_up:
                raise
