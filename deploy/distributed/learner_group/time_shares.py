"""Where the time of a learner's loop goes that is no update."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("turn", "batch", "latents", "snapshot", "checkpoint")
"""Waits for the coordinator, for the next batch, for replay to take latents; snapshots and checkpoints."""


class TimeShares:
    """Adds up what the loop's thread spends on each of PARTS."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._begun, self._seconds = time.perf_counter(), dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count this as time spent on `part`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] += time.perf_counter() - begun

    def take(self) -> dict[str, float]:
        """`time/PART`, shares in [0, 1] of the wall time since the last call."""
        whole = max(1e-9, time.perf_counter() - self._begun)
        shares = {f"time/{part}": seconds / whole for part, seconds in self._seconds.items()}
        self._restart()
        return shares
