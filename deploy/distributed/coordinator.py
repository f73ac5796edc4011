"""Where the processes of a run meet: rate limiter, newest snapshot, counters, reports. A plain class, which
`remote.start` makes a Ray actor; Ray calls it from one event loop, where any number may wait. Torch-free."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from deploy.distributed.cluster.mailbox import Mailbox
from deploy.distributed.journal import Journal
from deploy.distributed.messages import (
    LEARNER,
    ActorReport,
    Answer,
    Failure,
    LearnerLog,
    LearnerVerdict,
    Limits,
    News,
    Published,
    State,
    Verdict,
    actor_name,
)
from deploy.distributed.releases import Releases
from deploy.distributed.roster import Roster
from deploy.wiring.fleet import Assignment
from deploy.wiring.incarnations import Incarnations
from replay.rate_limiter import RateLimiter


class Coordinator(Mailbox):
    """Its methods are called by one event loop; none waits longer than its `timeout`."""

    def __init__(self, limits: Limits, incarnations: Incarnations, state: State):
        super().__init__()
        counters = state.counters
        self.limits, self._incarnations, self._state = limits, incarnations, state
        ratio, tolerance = state.ratio or (limits.samples_per_insert, limits.tolerance)
        limiter = self._limiter = RateLimiter(ratio, tolerance, state.min_size or limits.min_size)
        limiter.resize(state.replay_size)
        if "inserts" in counters:
            limiter.load({"inserts": counters["inserts"], "samples": counters["samples"]}, state.replay_size)
        self.roster = Roster(state)
        self._frames, self._steps = counters.get("frames", 0), counters.get("steps", 0)
        self._updates, self._version = counters.get("updates", 0), counters.get("version", 0)
        self._published: Published | None = None
        self._releases = Releases(self._version, self._updates)
        self._granted, self._learned_from = 0, self._updates
        self._journal = Journal()
        self._checkpoint_asked = state.checkpoint_asked
        self._saved: int | None = None
        self._stopping = False

    # What actors call

    def enlist(self, worker: int) -> Assignment:
        """Begin a life of environment worker number `worker`."""
        self._end_life(actor_name(worker))
        left = max(0, self.limits.random_steps - self._steps)
        return Assignment(self.incarnation(worker), self.roster.share(worker), -(-left // max(1, self.roster.actors)))

    def incarnation(self, worker: int) -> int:
        """An incarnation for the streams of a worker that was never used before."""
        return self._incarnations.next(worker)

    async def report(self, report: ActorReport, rows: int, timeout: float, most: int = 1) -> Answer:
        """Count finished work and ask to insert a block of `rows` more, or up to `most` such blocks; `wait`: inserting
        is too far ahead, or the policy that acts too far behind; ask again."""
        self.roster.report(report)
        self._journal.episodes += [
            (replace(episode, frames=self._frames + episode.frames), self._updates) for episode in report.episodes
        ]
        self._frames += report.frames
        self._steps += report.rows
        if self.roster.retired(report.worker):
            return Answer("stop", None)
        if self._too_old(report.version):
            return Answer("stop" if self._stopping else "wait", self.newest(report.version))
        if self.limits.max_lag:
            most = 1  # newer snapshots come with answers
        name = actor_name(report.worker)
        life = self.roster.lives[name]
        verdict, blocks = await self._ask(self._limiter.insert, rows, timeout, most, name)
        if self.roster.lives[name] != life:  # it died while it waited
            self._limiter.give_back_inserts(rows * blocks)
            return Answer("wait", None)
        self.roster.granted[name] += rows * blocks
        if self.roster.retired(report.worker) and verdict == "wait":
            verdict = "stop"
        return Answer(verdict, self.newest(report.version), blocks, self.roster.every)

    def _too_old(self, version: int) -> bool:
        """Whether a policy is behind the bound, and a newer one is there to replace it."""
        newest = self._published
        if not self.limits.max_lag or newest is None or newest.snapshot.version <= version:
            return False
        return self._releases.updates_behind(version, self._updates) > self.limits.max_lag

    def alive(self, name: str, process: int = 0, node: str = "") -> None:
        """Record a sign of life; `process`: its process id, 0 if unknown."""
        self.roster.alive(name, process, node)

    def note(self, line: str) -> None:
        """Add a line to the run's log; the same line from several processes is logged once."""
        self._journal.note(line)

    def failed(self, environment: int, worker: int, kind: str, text: str) -> None:
        """Count a failure of an environment; `text`: its traceback, or what is known instead."""
        self.roster.failed(Failure(environment, worker, kind, text))

    def quarantine(self, environment: int, reason: str) -> None:
        """Give out an environment no more."""
        self.roster.quarantined[environment] = reason

    async def first(self, timeout: float) -> Answer:
        """The newest snapshot, as soon as there is one; `wait`: there is none yet, ask again."""
        deadline = time.monotonic() + timeout
        while self._published is None and not self._stopping and time.monotonic() < deadline:
            await asyncio.sleep(min(0.1, timeout))
        verdict: Verdict = "stop" if self._stopping else "go" if self._published else "wait"
        return Answer(verdict, self._published)

    def newest(self, after: int) -> Published | None:
        """The newest snapshot if its version is above `after`."""
        newest = self._published
        return newest if newest and newest.snapshot.version > after else None

    # What the learner calls

    async def sample(self, steps: int, timeout: float) -> LearnerVerdict:
        """Ask to sample `steps` training steps; always `wait` at train ratio 0. `publish`: there is no snapshot yet;
        `checkpoint`: somebody has asked for one."""
        self.alive(LEARNER)
        if self._published is None and not self._stopping:
            return "publish"
        if self._checkpoint_asked and not self._stopping:
            return "checkpoint"
        if not (self._limiter.samples_per_insert or self.limits.frames_per_update):
            await self._pause(timeout)
            return "stop" if self._stopping else "wait"
        verdict, _ = await self._ask(self._limiter.sample, steps, timeout)
        if verdict == "go":
            self._granted += steps
        return verdict

    def publish(self, published: Published) -> int:
        """Accept a snapshot as the next version, which is returned."""
        self.alive(LEARNER)
        self._version += 1
        self._updates = published.snapshot.updates
        self._published = replace(
            published, snapshot=replace(published.snapshot, version=self._version, frames=self._all_frames)
        )
        self._releases.add(self._version, self._updates)
        return self._version

    def progress(self, updates: int, log: Mapping[str, float] | None = None) -> dict[str, int]:
        """The learner has done `updates`; `log` is a line of metrics. Returns the counters for a checkpoint."""
        self.alive(LEARNER)
        self._updates = updates
        if log is not None:
            self._journal.logs.append(LearnerLog(self._all_frames, self._all_steps, updates, dict(log)))
        return self.counters()

    def saved(self, updates: int) -> None:
        """The learner has written the checkpoint of update `updates`."""
        self._saved, self._checkpoint_asked = updates, False

    def counters(self) -> dict[str, int]:
        """For a checkpoint."""
        return {
            "frames": self._all_frames, "steps": self._steps, "updates": self._updates, "version": self._version,
            "incarnation": self._incarnations.last, **self._limiter.state(), **self.roster.counts,
        }  # fmt: skip

    @property
    def _all_frames(self) -> int:
        return self._updates * self.limits.frames_per_update or self._frames

    @property
    def _all_steps(self) -> int:
        return self._state.replay_size if self.limits.frames_per_update else self._steps

    def rewind(self, updates: int, replayed: int) -> None:
        """A learner begins at `updates`, each of which samples `replayed` steps: what its predecessor did beyond that
        is lost, so it is neither counted twice nor missing from the train ratio."""
        self.alive(LEARNER)
        lost = self._granted - (updates - self._learned_from) * replayed
        if updates < self._updates:
            self._journal.rewind(updates)
        self._updates = self._learned_from = updates
        self._granted = 0
        self._published = None  # its parameters were stored by the predecessor and went with it
        self._limiter.give_back(lost)

    # What the evaluator, the supervisor and those who steer the run call

    def evaluated(self, result: Mapping[str, Any]) -> None:
        """Accept the scores of a policy, unless the updates behind it are lost."""
        if result["updates"] <= self._updates:
            self._journal.evaluated(result)

    def news(self) -> News:
        """What has come in since the last call."""
        roster = self.roster
        lag, lag_seconds = self._releases.lag(roster.acting.values(), self._updates)
        return News(
            frames=self._all_frames,
            steps=self._all_steps,
            updates=self._updates,
            version=self._version,
            lag=lag,
            lag_seconds=lag_seconds,
            saved=self._saved,
            **self._journal.take(),
            last_seen=roster.last_seen(),
            processes=dict(roster.processes),
            nodes=dict(roster.nodes),
            rows=dict(roster.rows),
            acting=dict(roster.acting),
            failures=roster.take_failures(),
            waiting=self._limiter.stats(),
            requests=self.take_requests(),
            state=replace(
                roster.state(self.counters()), min_size=self._limiter.min_size, checkpoint_asked=self._checkpoint_asked
            ),
        )

    def forget(self, name: str) -> None:
        """Drop a process that is gone from lag and signs of life."""
        self._end_life(name)
        self.roster.forget(name)

    def _end_life(self, name: str) -> None:
        """Let others insert what a process was allowed to and did not, and take its place in the queue."""
        self._limiter.leave(name)
        self._limiter.give_back_inserts(self.roster.end_life(name))

    def replay_lost(self, size: int) -> None:
        """A shard has restarted with fewer steps; the replay now holds `size`."""
        self._limiter.resize(size)

    def set_ratio(self, samples_per_insert: float, tolerance: float) -> None:
        """Change the train ratio."""
        self._limiter.set_ratio(samples_per_insert, tolerance)
        self.roster.ratio = samples_per_insert, tolerance

    def scale(self, actors: int, min_size: int) -> None:
        """Let `actors` workers act; those with higher numbers stop at their next report."""
        self.roster.actors = actors
        self._limiter.require(min_size)
        self._limiter.wake()

    def ask_checkpoint(self) -> None:
        """Let the learner save as soon as it asks for the next batch."""
        self._checkpoint_asked, self._saved = True, None
        self._limiter.wake()

    def stop(self) -> None:
        """Answer every further request of actors and learner with `stop`."""
        self._stopping = True
        self._limiter.wake()

    def stopping(self) -> bool:
        return self._stopping

    async def _ask(self, wait: Callable[..., Coroutine[Any, Any, int]], *arguments: Any) -> tuple[Verdict, int]:
        """The limiter's answer, and the number of blocks that it lets pass."""
        if self._stopping:
            return "stop", 0
        try:
            blocks = await wait(*arguments)
        except TimeoutError:
            return "stop" if self._stopping else "wait", 0
        return "stop" if self._stopping else "go" if blocks else "wait", blocks

    async def _pause(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self._stopping and not self._checkpoint_asked and time.monotonic() < deadline:
            await asyncio.sleep(min(0.1, timeout))
