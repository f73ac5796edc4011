"""Where the processes of a local run meet: rate limiter, newest snapshot, counters, reports. A plain class;
`remote.start` wraps it in a Ray actor whose threads may wait here. Torch-free."""

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from actors.vector import Episode
from deploy.distributed.coordinator_client import COORDINATOR
from deploy.wiring.incarnations import Incarnations
from replay.rate_limiter import RateLimiter
from world_models.snapshot import Snapshot

LEARNER = "learner"
Verdict = Literal["go", "wait", "stop"]
LearnerVerdict = Literal["go", "wait", "stop", "publish"]


@dataclass(frozen=True, kw_only=True)
class ActorReport:
    """What an actor did since its last report."""

    actor: str
    process: int
    rows: int
    frames: int
    version: int
    """Snapshot that chose the actions."""
    episodes: list[Episode] = field(default_factory=list)
    """`frames` counted from the last report."""


class LearnerLog(NamedTuple):
    """A line of the learner's metrics, and the run's counts when it came."""

    frames: int
    steps: int
    updates: int
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class News:
    """What has happened since the supervisor last asked."""

    frames: int
    steps: int
    updates: int
    lag: float
    """Updates between the learner and the policies that act, mean over the actors."""
    episodes: list[tuple[Episode, int]]
    """Each with the number of updates when it was reported; its `frames` are the run's."""
    logs: list[LearnerLog]
    evaluations: list[dict[str, Any]]
    rewound: int | None
    """The update a restarted learner has gone back to; log lines of later updates are void."""
    last_seen: dict[str, float]
    """Seconds since each process last reported."""
    processes: dict[str, int]
    """Process ids, as far as reported."""
    rows: dict[str, int]
    """Rows of each actor since its last start."""
    notes: list[str]
    """Lines for the run's log."""
    waiting: dict[str, float]
    """The limiter's counts: how far inserting is ahead, how long each side waited."""
    counters: dict[str, int]
    """What a replacement for this coordinator starts with."""


class Coordinator:
    """All methods may be called concurrently from any thread; none waits longer than its `timeout`."""

    def __init__(
        self, samples_per_insert: float, tolerance: float, min_size: int, counters: Mapping[str, int], replay_size: int,
        incarnations: Incarnations, frames_per_update: int = 0, known: Iterable[str] = (),
    ):  # fmt: skip
        """`frames_per_update`: offline, where no actor counts frames, those that an update replays. `known`: processes
        that have given signs of life to the coordinator before this one."""
        limiter = self._limiter = RateLimiter(samples_per_insert, tolerance, min_size)
        self._lock = threading.Lock()
        self._frames, self._steps = counters.get("frames", 0), counters.get("steps", 0)
        self._updates, self._version = counters.get("updates", 0), counters.get("version", 0)
        limiter.resize(replay_size)
        if "inserts" in counters:
            limiter.load({"inserts": counters["inserts"], "samples": counters["samples"]}, replay_size)
        self._snapshot: Snapshot | None = None
        self._published = {self._version: self._updates}
        self._ratio, self._granted, self._learned_from = samples_per_insert, 0, self._updates
        self._frames_per_update, self._replay_size = frames_per_update, replay_size
        self._acting: dict[str, int] = {}
        self._seen = dict.fromkeys(known, time.monotonic())
        self._processes = {COORDINATOR: os.getpid()}
        self._rows: dict[str, int] = {}
        self._incarnations = incarnations
        self._episodes: list[tuple[Episode, int]] = []
        self._logs: list[LearnerLog] = []
        self._rewound: int | None = None
        self._evaluations: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._stopping = threading.Event()

    # What actors call

    def report(self, report: ActorReport, rows: int, timeout: float) -> Verdict:
        """Count finished work and ask to insert `rows` more; `wait`: inserting is too far ahead, ask again."""
        with self._lock:
            self._seen[report.actor] = time.monotonic()
            self._acting[report.actor] = report.version
            self._processes[report.actor] = report.process
            self._rows[report.actor] = self._rows.get(report.actor, 0) + report.rows
            self._episodes += [
                (replace(episode, frames=self._frames + episode.frames), self._updates) for episode in report.episodes
            ]
            self._frames += report.frames
            self._steps += report.rows
        return self._ask(self._limiter.wait_insert, rows, timeout)

    def alive(self, name: str, process: int = 0) -> None:
        """Record a sign of life; `process`: its process id, 0 if unknown."""
        with self._lock:
            self._seen[name] = time.monotonic()
            if process:
                self._processes[name] = process

    def note(self, line: str) -> None:
        """Add a line to the run's log; the same line from several processes is logged once."""
        with self._lock:
            if line not in self._notes:
                self._notes.append(line)

    def incarnation(self, actor: int) -> int:
        """An incarnation for the streams of `actor` that was never used before."""
        with self._lock:
            return self._incarnations.next(actor)

    def newest(self, after: int) -> Snapshot | None:
        """The newest snapshot if its version is above `after`."""
        with self._lock:
            return self._snapshot if self._snapshot and self._snapshot.version > after else None

    # What the learner calls

    def sample(self, steps: int, timeout: float) -> LearnerVerdict:
        """Ask to sample `steps` training steps; always `wait` at train ratio 0. `publish`: there is no snapshot yet."""
        self.alive(LEARNER)
        if self._snapshot is None and not self.stopping():
            return "publish"
        if not (self._ratio or self._frames_per_update):
            return "stop" if self._stopping.wait(timeout) else "wait"
        verdict = self._ask(self._limiter.wait_sample, steps, timeout)
        if verdict == "go":
            self._granted += steps
        return verdict

    def publish(self, snapshot: Snapshot) -> int:
        """Accept a snapshot as the next version, which is returned."""
        self.alive(LEARNER)
        with self._lock:
            self._version += 1
            self._updates = snapshot.updates
            self._snapshot = replace(snapshot, version=self._version, frames=self._all_frames)
            self._published[self._version] = snapshot.updates
            for old in sorted(self._published)[:-1000]:
                del self._published[old]
            return self._version

    def progress(self, updates: int, log: Mapping[str, float] | None = None) -> dict[str, int]:
        """The learner has done `updates`; `log` is a line of metrics. Returns the counters for a checkpoint."""
        self.alive(LEARNER)
        with self._lock:
            self._updates = updates
            if log is not None:
                self._logs.append(LearnerLog(self._all_frames, self._all_steps, updates, dict(log)))
        return self.counters()

    def counters(self) -> dict[str, int]:
        """For a checkpoint."""
        limiter = self._limiter.state()
        with self._lock:
            own = {"frames": self._all_frames, "steps": self._steps}
            own |= {"updates": self._updates, "version": self._version, "incarnation": self._incarnations.last}
        return own | dict(limiter)

    @property
    def _all_frames(self) -> int:
        return self._updates * self._frames_per_update or self._frames

    @property
    def _all_steps(self) -> int:
        return self._replay_size if self._frames_per_update else self._steps

    def rewind(self, updates: int, replayed: int) -> None:
        """A learner begins at `updates`, each of which samples `replayed` steps: what its predecessor did beyond that
        is lost, so it is neither counted twice nor missing from the train ratio."""
        self.alive(LEARNER)
        with self._lock:
            lost = self._granted - (updates - self._learned_from) * replayed
            if updates < self._updates:
                self._rewound = updates if self._rewound is None else min(updates, self._rewound)
                self._episodes = [(episode, min(then, updates)) for episode, then in self._episodes]
                self._logs = [line for line in self._logs if line.updates <= updates]
                self._evaluations = [result for result in self._evaluations if result["updates"] <= updates]
            self._updates = self._learned_from = updates
            self._granted = 0
        self._limiter.give_back(lost)

    # What the evaluator and the supervisor call

    def evaluated(self, result: Mapping[str, Any]) -> None:
        """Accept the scores of a policy, unless the updates behind it are lost."""
        with self._lock:
            if result["updates"] <= self._updates:
                self._evaluations.append(dict(result))

    def news(self) -> News:
        """What has come in since the last call."""
        now = time.monotonic()
        limiter, counters = self._limiter.stats(), self.counters()
        with self._lock:
            lags = [self._updates - self._published.get(version, 0) for version in self._acting.values()]
            out = News(
                frames=self._all_frames,
                steps=self._all_steps,
                updates=self._updates,
                lag=sum(max(0, lag) for lag in lags) / max(1, len(lags)),
                episodes=self._episodes,
                logs=self._logs,
                evaluations=self._evaluations,
                rewound=self._rewound,
                last_seen={actor: now - seen for actor, seen in self._seen.items()},
                processes=dict(self._processes),
                rows=dict(self._rows),
                notes=self._notes,
                waiting=limiter,
                counters=counters,
            )
            self._episodes, self._logs, self._evaluations, self._notes = [], [], [], []
            self._rewound = None
            return out

    def forget(self, name: str) -> None:
        """Drop a process that is gone from lag and signs of life."""
        with self._lock:
            for known in (self._acting, self._seen, self._processes, self._rows):
                known.pop(name, None)

    def replay_lost(self, size: int) -> None:
        """A shard has restarted with fewer steps; the replay now holds `size`."""
        self._limiter.resize(size)

    def set_ratio(self, samples_per_insert: float, tolerance: float) -> None:
        """Change the train ratio."""
        self._ratio = samples_per_insert
        self._limiter.set_ratio(samples_per_insert, tolerance)

    def stop(self) -> None:
        """Answer every further request of actors and learner with `stop`."""
        self._stopping.set()

    def stopping(self) -> bool:
        return self._stopping.is_set()

    def _ask(self, wait: Any, n: int, timeout: float) -> Verdict:
        if self.stopping():
            return "stop"
        try:
            wait(n, timeout)
        except TimeoutError:
            return "stop" if self.stopping() else "wait"
        return "stop" if self.stopping() else "go"
