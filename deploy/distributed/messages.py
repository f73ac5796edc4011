"""What the processes of a run tell each other through the coordinator. Free of torch."""

from dataclasses import dataclass, field
from random import uniform
from typing import Any, Literal, NamedTuple

from ray import ObjectRef

from actors.batch_environment import Episode
from deploy.wiring.fleet import Fleet
from world_models.snapshot import Snapshot

LEARNER = "learner"
HELD = 20.0  # seconds that the coordinator may hold back the answer to an actor
NO_ENVIRONMENTS = "no environments"
"""What a worker returns whose environments are all quarantined."""
Verdict = Literal["go", "wait", "stop"]
LearnerVerdict = Literal["go", "wait", "stop", "publish", "checkpoint"]


def actor_name(worker: int) -> str:
    """The name of environment worker number `worker`."""
    return f"actor {worker}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A snapshot in Ray's object store: who needs its parameters fetches them, once per node."""

    snapshot: Snapshot
    """Without its buffer."""
    buffer: list[ObjectRef]
    """One reference, in a list so that Ray passes it on as it is."""


class Answer(NamedTuple):
    """The answer to an actor's report."""

    verdict: Verdict
    published: Published | None
    """The newest snapshot if it is newer than the one that acts."""
    blocks: int = 1
    """That may be inserted before the next report, if the verdict is `go`."""
    every: float = 0.0
    """Seconds from one report of an actor to the next that suit a fleet of this size."""

    def most(self, seconds: float) -> int:
        """How many blocks to ask for next after those granted took `seconds`. Drawn around what takes `every` seconds,
        so that actors that start together do not go on reporting together."""
        return max(1, int(self.every * uniform(0.5, 1.5) * self.blocks / max(seconds, 1e-3)))


@dataclass(frozen=True, kw_only=True)
class ActorReport:
    """What an actor did since its last report."""

    worker: int
    process: int
    rows: int
    frames: int
    version: int
    """Snapshot that chose the actions."""
    node: str = ""
    """Ray's id of the node it runs on."""
    episodes: list[Episode] = field(default_factory=list)
    """`frames` counted from the last report."""


class LearnerLog(NamedTuple):
    """A line of the learner's metrics, and the run's counts when it came."""

    frames: int
    steps: int
    updates: int
    values: dict[str, float]


class Failure(NamedTuple):
    """An environment that failed: its number, the kind of failure, and its traceback or what is known instead."""

    environment: int
    worker: int
    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Settings of the rate limiter and of the staleness bound."""

    samples_per_insert: float
    tolerance: float
    min_size: int
    max_lag: int = 0
    """Updates that an acting policy may be behind while a newer one is published; 0: any number."""
    frames_per_update: int = 0
    """Offline, where no actor counts frames, those that an update replays."""
    random_steps: int = 0
    """Steps of the run with random actions."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a coordinator begins with: that of a new run, of a checkpoint, or of the coordinator before it."""

    counters: dict[str, int]
    """As saved in checkpoints."""
    replay_size: int
    """Steps in replay."""
    fleet: Fleet
    actors: int
    """Environment workers that there should be; those with higher numbers are told to stop."""
    quarantined: dict[int, str] = field(default_factory=dict)
    """Environments that are not used any more, and why."""
    ratio: tuple[float, float] | None = None
    """Samples per insert and tolerance, if they were changed during the run."""
    min_size: int = 0
    """Steps in replay at which sampling began or begins; 0: that of the limits."""
    checkpoint_asked: bool = False
    """Somebody waits for a checkpoint."""
    known: list[str] = field(default_factory=list)
    """Processes that have given signs of life to the coordinator before this one."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What has happened since the supervisor last asked."""

    frames: int
    steps: int
    updates: int
    version: int
    """The newest snapshot's."""
    lag: float
    """Updates between the learner and the policies that act, mean over the actors."""
    lag_seconds: float
    """Seconds since those policies were published, mean over the actors."""
    episodes: list[tuple[Episode, int]]
    """Each with the number of updates when it was reported; its `frames` are the run's."""
    logs: list[LearnerLog]
    evaluations: list[dict[str, Any]]
    rewound: int | None
    """The update a restarted learner has gone back to; log lines of later updates are void."""
    saved: int | None
    """Updates of the newest checkpoint since the last one was asked for; None until there is one."""
    last_seen: dict[str, float]
    """Seconds since each process last reported."""
    processes: dict[str, int]
    """Process ids, as far as reported."""
    nodes: dict[str, str]
    """Ray's ids of the nodes that they run on, as far as reported."""
    rows: dict[str, int]
    """Rows of each actor since its last start."""
    acting: dict[str, int]
    """Snapshot version of each actor."""
    notes: list[str]
    """Lines for the run's log."""
    failures: list[Failure]
    """Failed environments; `counters` has their number by kind as `failures/KIND`."""
    waiting: dict[str, float]
    """The limiter's counts: how far inserting is ahead, how long each side waited."""
    requests: list[tuple[str, dict[str, Any]]]
    """Requests of those who reach the run through Ray, each with its id."""
    state: State
    """What a replacement for this coordinator starts with."""

    @property
    def counters(self) -> dict[str, int]:
        return self.state.counters
