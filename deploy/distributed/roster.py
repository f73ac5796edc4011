"""The processes of a run as its coordinator knows them, and the environments each worker has. Free of torch."""

import os
import time
from collections import Counter
from dataclasses import replace

from deploy.distributed.coordinator_client import COORDINATOR
from deploy.distributed.messages import ActorReport, Failure, State, actor_name
from deploy.wiring.fleet import Share

FAILURES = "failures/"  # prefix of their numbers among the counters
REPORTS = 200  # a second that all actors together may make without keeping the coordinator busy
RARELY = 5.0  # seconds between reports of an actor, however many there are
KEPT = 1000  # failures between two looks of the supervisor; of more only the number is kept


class Roster:
    """Counts what each worker did in its present life, and all failures of environments."""

    def __init__(self, state: State):
        self._begun, self.actors, self.quarantined = state, state.actors, dict(state.quarantined)
        self.ratio = state.ratio
        self.seen = dict.fromkeys(state.known, time.monotonic())
        """When each process last gave a sign of life."""
        self.processes = {COORDINATOR: os.getpid()}
        self.nodes: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.acting: dict[str, int] = {}
        """The snapshot version of each actor."""
        self.granted: dict[str, int] = {}
        """Rows that each actor was allowed to insert and has not reported."""
        self.lives: Counter[str] = Counter()
        """Of each process, those that are known to be over."""
        self.counts = Counter({key: n for key, n in state.counters.items() if key.startswith(FAILURES)})
        self._failures: list[Failure] = []

    def alive(self, name: str, process: int = 0, node: str = "") -> None:
        """Record a sign of life; `process`: its process id, 0 if unknown."""
        self.seen[name] = time.monotonic()
        if process:
            self.processes[name], self.nodes[name] = process, node

    def report(self, report: ActorReport) -> None:
        """Count what an actor has done."""
        name = actor_name(report.worker)
        self.alive(name, report.process, report.node)
        self.acting[name] = report.version
        self.rows[name] = self.rows.get(name, 0) + report.rows
        # Rows that the coordinator before this one granted are reported to this one.
        self.granted[name] = max(0, self.granted.get(name, 0) - report.rows)

    @property
    def every(self) -> float:
        """Seconds from one report of an actor to its next that suit the number of actors."""
        return min(RARELY, len(self.acting) / REPORTS)

    def retired(self, worker: int) -> bool:
        """Whether the run has been scaled down below this worker."""
        return worker >= self.actors

    def share(self, worker: int) -> Share:
        """The environments of a worker, without those that are quarantined."""
        whole = self._begun.fleet.share(worker)
        kept = [pair for pair in zip(*whole, strict=True) if pair[0] not in self.quarantined]
        return Share([index for index, _ in kept], [slot for _, slot in kept])

    def failed(self, failure: Failure) -> None:
        """Count a failure of an environment."""
        self.counts[FAILURES + failure.kind] += 1
        if len(self._failures) < KEPT:
            self._failures.append(failure)

    def take_failures(self) -> list[Failure]:
        """Those since the last call."""
        out, self._failures = self._failures, []
        return out

    def last_seen(self) -> dict[str, float]:
        """Seconds since each process last gave a sign of life."""
        now = time.monotonic()
        return {name: now - seen for name, seen in self.seen.items()}

    def state(self, counters: dict[str, int]) -> State:
        """What another coordinator continues from."""
        return replace(
            self._begun, counters=counters, actors=self.actors, quarantined=dict(self.quarantined),
            ratio=self.ratio, known=list(self.seen),
        )  # fmt: skip

    def end_life(self, name: str) -> int:
        """A process is gone, or another has taken its place; returns the rows it was granted and did not report."""
        self.lives[name] += 1
        return self.granted.pop(name, 0)

    def forget(self, name: str) -> None:
        """Drop a process that is gone from lag and signs of life."""
        for known in (self.acting, self.seen, self.processes, self.nodes, self.rows):
            known.pop(name, None)
