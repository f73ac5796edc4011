"""A replay under work, in which one thing after the other is broken and mended, and what became of it."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tests.benchmarks.replay_soak_ledger import Audit, Ledger, Loss
from tests.benchmarks.replay_soak_rows import Tally
from tests.benchmarks.replay_soak_workers import Event, Worker

GOES_ON = 30.0
"""Seconds after a fault was mended, or a process started again, until every worker works, with all shards."""
_KEPT = 0.85  # of what there is room for: chunks that are not full, and streams that end, take some


class SoakError(Exception):
    """The replay did not do what it promises."""


class Fault(NamedTuple):
    """One that is over: since when all is whole again, and which losses it explains."""

    mended: float
    explains: Callable[[int, Loss], bool] = lambda store, loss: False
    shrinks: bool = False  # the store had to give steps up
    killed: float = 0.0
    lost: tuple[int, float] | None = None  # steps and seconds; None: still to be looked for
    alone: float = 0.0  # seconds until the others went on without what was broken
    note: str = ""


class Kind(NamedTuple):
    """Of fault: how often it comes in a round, what it may cost in words, and what it does."""

    times: int
    window: str
    act: Callable[[], Fault]


@dataclass
class Record:
    """All faults of one kind; of losses and times the largest."""

    times: int = 0
    lost_steps: int = 0
    lost_seconds: float = 0.0
    recovery: float = 0.0
    alone: float = 0.0
    notes: dict[str, int] = field(default_factory=dict)


class Site(ABC):
    """Runs until `stop` is set; `failed` says why it ended before."""

    name: str
    kinds: Mapping[str, Kind]

    def __init__(self, seed: int, only: Sequence[str], ledgers: list[Ledger], rooms: list[int]) -> None:
        self.rng, self.ledgers, self._rooms = np.random.default_rng(seed), ledgers, rooms
        self.stop = threading.Event()
        self.failed = ""
        self.doing = "starting"
        self.tolerates = ""  # an error that a worker may end with
        self.tally = Tally()
        self.audited = self.refused = 0
        self.records: dict[str, Record] = {}
        self.notes: list[str] = []
        self._only = only
        self._full = [False] * len(ledgers)
        self._worked: dict[str, tuple[float, list[str]]] = {}  # by worker: since when it has done what, without whom
        self._lock = threading.Lock()

    @property
    def steps(self) -> int:
        return sum(ledger.steps for ledger in self.ledgers)

    @abstractmethod
    def begin(self) -> None:
        """Start everything."""
        ...

    @abstractmethod
    def end(self) -> None:
        """Leave nothing behind."""
        ...

    @abstractmethod
    def workers(self) -> list[str]:
        """Names of all that should be working."""
        ...

    @abstractmethod
    def look(self, store: int) -> Audit:
        """Audit one of the stores."""
        ...

    def run(self) -> None:
        """Break and mend until it is to stop."""
        try:
            self.begin()
            self.goes_on(time.monotonic(), GOES_ON)
            kinds = [kind for kind in self.kinds if not self._only or kind in self._only]
            deck: list[str] = []
            while kinds and not self.stop.wait(self.rng.uniform(0.5, 2.0)):
                if not deck:
                    deck = list(self.rng.permutation([kind for kind in kinds for _ in range(self.kinds[kind].times)]))
                self.doing = str(deck.pop())
                self._settle(self.doing, self.kinds[self.doing].act())
            self.stop.wait()
            self.doing = "the last audit"
            for store in range(len(self.ledgers)):
                self.check(store, self.look(store), Fault(0.0))
        except BaseException as error:
            self.fail(f"{type(error).__name__}: {error}")
        finally:
            try:
                self.end()
            except BaseException as error:
                self.fail(f"{type(error).__name__}: {error}")

    def fail(self, why: str) -> None:
        with self._lock:
            self.failed = self.failed or f"{self.name}, {self.doing}: {why}"
        self.stop.set()

    def take(self, event: Event) -> None:
        """Called by the listeners."""
        if event.kind == "took":
            store, blocks = event.value
            try:
                self.ledgers[store].take(event.time, blocks)
            except AssertionError as error:
                self.fail(f"{event.who} wrote steps again that were acknowledged: {error}")
        elif event.kind == "failed" and not (self.tolerates and self.tolerates in event.value):
            self.fail(f"{event.who} failed:\n{event.value}")
        with self._lock:
            if event.kind == "worked":
                down, tally = event.value
                self._worked[event.who] = event.began, down
                self.tally = self.tally.plus(tally)
            elif event.kind == "refused":
                self.refused += 1
            elif event.kind == "note":
                self.notes.append(f"{self.doing}: {event.who}: {event.value}")

    def goes_on(self, since: float, limit: float, without: Sequence[str] = ()) -> float:
        """Wait until each worker has done something that began after `since`, with all shards but these; how long."""
        while True:
            now = time.monotonic()
            with self._lock:
                late = [
                    f"{who} (works since {since - began:.1f} s before, without {down})"
                    for who in self.workers()
                    for began, down in [self._worked.get(who, (-np.inf, []))]
                    if began <= since or set(down) - set(without)
                ]
            if not late:
                return now - since
            if self.failed:
                raise SoakError(self.failed)
            if now > since + limit:
                raise SoakError(f"After {now - since:.1f} s do not work as they should: {', '.join(late)}.")
            time.sleep(0.02)

    def check(self, store: int, audit: Audit, fault: Fault) -> tuple[int, float]:
        """Compare an audit with what was acknowledged; how many steps are lost, and how old the oldest of them was."""
        chunk_gb = audit.stats["gb"] / max(1, audit.stats["chunks"])
        full = audit.stats["gb"] + 2 * chunk_gb >= _KEPT * audit.stats["max_gb"]  # making room may free a chunk or two
        full, self._full[store] = full or self._full[store], full  # its bound may have been raised since
        enough = _KEPT * self._rooms[store]
        settled = self.ledgers[store].settle(audit, lambda steps: full or fault.shrinks or steps >= enough)
        self.audited += sum(stop - first for pieces in audit.there.values() for first, stop in pieces)
        wrong = [loss for loss in settled.losses if not fault.explains(store, loss)]
        if wrong:
            raise SoakError(
                f"{len(wrong)} losses that nothing explains, such as {'; '.join(map(str, wrong[:9]))}; killed at "
                f"{fault.killed}, all before {settled.limit} may be evicted; {fault.note}"
            )
        lost = sum(loss.stop - loss.first for loss in settled.losses)
        expected = min(self._rooms[store], settled.known - lost)
        if not fault.shrinks and settled.kept < _KEPT * expected and not full:
            raise SoakError(
                f"Store {store} has {settled.kept:,} steps, {settled.known:,} were acknowledged, {lost:,} of them are "
                f"lost; it has room for {self._rooms[store]:,}: {dict(audit.stats)}"
            )
        oldest = min((loss.oldest for loss in settled.losses), default=fault.killed)
        return lost, max(0.0, fault.killed - oldest)

    def _settle(self, kind: str, fault: Fault) -> None:
        recovery = self.goes_on(fault.mended, GOES_ON)
        if fault.lost is None:
            losses = [self.check(store, self.look(store), fault) for store in range(len(self.ledgers))]
        else:
            losses = [fault.lost]
        record = self.records.setdefault(kind, Record())
        record.times += 1
        record.recovery, record.alone = max(record.recovery, recovery), max(record.alone, fault.alone)
        record.lost_steps = max(record.lost_steps, sum(lost for lost, _ in losses))
        record.lost_seconds = max(record.lost_seconds, *(seconds for _, seconds in losses))
        if fault.note:
            record.notes[fault.note] = record.notes.get(fault.note, 0) + 1

    def strike(self, worker: Worker, kind: str) -> None:
        """Wait until a worker tells the next event of this kind, and a moment more."""
        if worker.wait(kind, after=time.monotonic(), timeout=GOES_ON) is None:
            raise SoakError(f"{worker.name} did nothing for {GOES_ON:g} s.")
        time.sleep(self.rng.uniform(0, 0.002))
