"""Keeps sampling and inserting in proportion: the side that is ahead waits, at most for its timeout."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Literal, NamedTuple

Side = Literal["insert", "sample"]
OTHER: dict[Side, str] = {"insert": "sampled", "sample": "inserted"}


class _Turn(NamedTuple):
    n: int
    most: int
    blocks: asyncio.Future[int]
    who: str
    since: float


class RateLimiter:
    """diff = inserts * samples_per_insert - samples stays within `tolerance` of min_size * samples_per_insert.

    Reverb's SampleToInsertRatio (Cassirer et al. 2021, section 3.4), counted in steps. `samples_per_insert=0` does not
    couple the two; sampling still waits for `min_size` steps. All methods are called by one event loop; those who wait
    are served in the order in which they came.
    """

    def __init__(self, samples_per_insert: float, tolerance: float, min_size: int = 1) -> None:
        if samples_per_insert < 0 or tolerance < 0 or min_size < 1:
            raise ValueError(
                f"RateLimiter({samples_per_insert}, {tolerance}, {min_size}): ratio and tolerance must be at least 0, "
                "min_size at least 1."
            )
        self.samples_per_insert, self.tolerance, self.min_size = samples_per_insert, tolerance, min_size
        self._inserts = self._samples = 0
        self._size = 0  # steps in replay; a restored limiter may have counted more inserts
        self._largest = {"insert": 0, "sample": 0}
        self._waited: dict[Side, float] = {"insert": 0.0, "sample": 0.0}
        self._queues: dict[Side, deque[_Turn]] = {"insert": deque(), "sample": deque()}

    async def insert(self, n: int, timeout: float, most: int = 1, who: str = "") -> int:
        """Count a block of n inserted steps once allowed, or at once up to `most` blocks if so many are allowed then;
        returns how many (0: see `wake`). While replay is filling it is always one: sampling is to begin with steps that
        are there. `who`: see `leave`. Raises TimeoutError, or ValueError if n can never be allowed."""
        return await self._pass("insert", n, timeout, most, who)

    async def sample(self, n: int, timeout: float) -> int:
        """Count n sampled steps once allowed; returns 1, or 0: see `wake`. Raises as `insert`."""
        return await self._pass("sample", n, timeout, 1)

    def leave(self, who: str) -> None:
        """Let inserts that wait for `who` return at once, with nothing counted: nobody would make them."""
        queue = self._queues["insert"]
        for turn in [turn for turn in queue if turn.who == who]:
            queue.remove(turn)
            self._answer("insert", turn, 0)
        self._serve()

    def wake(self) -> None:
        """Let everybody who waits return at once, with nothing counted."""
        for side, queue in self._queues.items():
            for turn in queue:
                self._answer(side, turn, 0)
            queue.clear()

    def give_back(self, n: int) -> None:
        """Uncount n sampled steps, whose updates are lost: they may be sampled again."""
        self._samples -= n
        self._serve()

    def give_back_inserts(self, n: int) -> None:
        """Uncount n inserted steps, which were allowed and never made."""
        self._inserts -= n
        self._size = max(0, self._size - n)
        self._serve()

    def resize(self, size: int) -> None:
        """Replay has lost steps and holds `size`: below min_size, inserting is free and sampling waits."""
        self._size = size
        self._serve()

    def require(self, min_size: int) -> None:
        """Let sampling begin only at `min_size` steps, unless it has begun."""
        if self._size < self.min_size:
            self.min_size = min_size
            self._serve()

    def set_ratio(self, samples_per_insert: float, tolerance: float) -> None:
        """Change ratio and tolerance from now on; what was inserted and sampled so far counts as balanced."""
        RateLimiter(samples_per_insert, tolerance)  # raises for invalid values
        self.samples_per_insert, self.tolerance = samples_per_insert, tolerance
        self._balance()
        self._serve()

    def state(self) -> dict[str, int]:
        return {"inserts": self._inserts, "samples": self._samples}

    def load(self, state: Mapping[str, int], size: int) -> None:
        """Continue from a state() over a replay of `size` steps; counts that no longer fit are rebalanced."""
        self._inserts, self._samples, self._size = int(state["inserts"]), int(state["samples"]), size
        if abs(self._diff - self._middle) > self.tolerance:
            self._balance()
        self._serve()

    def stats(self) -> dict[str, float]:
        """Counts of the run; `waited`: seconds that all who asked have waited, those who still wait included."""
        now = time.monotonic()
        waited = {side: self._waited[side] + sum(now - turn.since for turn in self._queues[side]) for side in OTHER}
        return {
            "inserts": self._inserts,
            "samples": self._samples,
            "samples_per_insert": self._samples / max(1, self._inserts),
            "ahead": self._diff - self._middle,  # above 0: inserting is ahead
            "insert_waited_seconds": waited["insert"],
            "sample_waited_seconds": waited["sample"],
        }

    @property
    def _diff(self) -> float:
        return self._inserts * self.samples_per_insert - self._samples

    @property
    def _middle(self) -> float:
        return self.min_size * self.samples_per_insert

    def _may_insert(self, n: int) -> bool:
        ahead = self._diff + n * self.samples_per_insert - self._middle
        # Reverb tests size + n <= min_size, which blocks both sides if one block would exceed min_size and tolerance.
        return not self.samples_per_insert or self._size < self.min_size or ahead <= self.tolerance

    def _may_sample(self, n: int) -> bool:
        behind = self._middle - (self._diff - n)
        return self._size >= self.min_size and (not self.samples_per_insert or behind <= self.tolerance)

    def _balance(self) -> None:
        self._samples = round(self._inserts * self.samples_per_insert - self._middle)

    async def _pass(self, side: Side, n: int, timeout: float, most: int, who: str = "") -> int:
        self._require_possible(side, n)
        queue = self._queues[side]
        if not queue and (blocks := self._take(side, n, most)):
            self._serve()
            return blocks
        turn = _Turn(n, most, asyncio.get_running_loop().create_future(), who, time.monotonic())
        queue.append(turn)
        try:
            await asyncio.wait([turn.blocks], timeout=timeout)  # does not cancel a turn that has just come
        finally:
            if not turn.blocks.done():
                queue.remove(turn)
                self._waited[side] += time.monotonic() - turn.since
                self._serve()  # it may have kept a smaller one behind it waiting
        if not turn.blocks.done():
            raise TimeoutError(
                f"{side} of {n} steps waited {timeout:g} s until more is {OTHER[side]}: {self._inserts} inserted, "
                f"{self._samples} sampled, {self.samples_per_insert:g} samples per insert +- {self.tolerance:g} steps, "
                f"at least {self.min_size} steps before the first sample (now {self._size})."
            )
        return turn.blocks.result()

    def _take(self, side: Side, n: int, most: int) -> int:
        """Count up to `most` blocks of n steps, as many as are allowed now; returns how many."""
        if self._size < self.min_size:
            most = 1
        blocks = 0
        while blocks < most and (self._may_insert(n) if side == "insert" else self._may_sample(n)):
            blocks += 1
            if side == "insert":
                self._inserts += n
                self._size += n
            else:
                self._samples += n
        return blocks

    def _serve(self) -> None:
        """Let pass whoever may, each side in its order; an insert may make room for a sample and vice versa."""
        served = True
        while served:
            served = False
            for side, queue in self._queues.items():
                while queue and (blocks := self._take(side, queue[0].n, queue[0].most)):
                    self._answer(side, queue.popleft(), blocks)
                    served = True

    def _answer(self, side: Side, turn: _Turn, blocks: int) -> None:
        self._waited[side] += time.monotonic() - turn.since
        turn.blocks.set_result(blocks)

    def _require_possible(self, side: Side, n: int) -> None:
        self._largest[side] = max(self._largest[side], n)
        need = self._largest["insert"] * self.samples_per_insert + self._largest["sample"]
        if self.samples_per_insert and need > 2 * self.tolerance:
            raise ValueError(
                f"Inserting {self._largest['insert']} and sampling {self._largest['sample']} steps at a time can block "
                f"each other forever at {self.samples_per_insert:g} samples per insert with a tolerance of "
                f"{self.tolerance:g}; set the tolerance to at least {need / 2:g}."
            )
