"""Configuration of replay: where it is stored, how much it keeps, how it is sampled."""

import math
from dataclasses import dataclass, field
from typing import Literal

from replay.redis_url import PASSWORD_VARIABLE, URLS, parse_servers

PRIORITY_BYTES = 21  # per step: a float32, and a float64 in each of two trees with 1/63 more above the leaves
RECENCY_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Fractions of items sampled in each way. Sequences in the online queue come before all of them."""

    uniform: float | None = None
    """Uniformly. None: what the other fractions leave."""
    priority: float = 0.0
    """By priority: the world model's loss at the item's steps when last trained on."""
    recency: float = 0.0
    """By age, counted in items: proportional to (1 + age) ** -recency_exponent."""
    exponent: float = 0.8
    """Priorities are raised to this power; 0 makes all known ones equal."""
    maxfrac: float = 0.5
    """An item's priority is maxfrac * max + (1 - maxfrac) * mean of its steps' priorities."""
    initial: float = math.inf
    """Priority of a step that has none yet; items with infinite priority come first, all equally likely."""
    zero_on_sample: bool = True
    """Sampling an item by priority sets its steps' priorities to 0 until the learner sets new ones."""
    recency_exponent: float = 1.0
    """How fast the probability of `recency` falls with age."""

    def __post_init__(self) -> None:
        for name in ("uniform", "priority", "recency", "maxfrac"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"replay.selection.{name} is {value} but must be a fraction from 0 to 1.")
        for name in ("exponent", "recency_exponent"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"replay.selection.{name} is {value} but must be at least 0; 0 is off.")
        if not self.initial >= 0:
            raise ValueError(
                f"replay.selection.initial is {self.initial} but must be at least 0; inf samples new items first."
            )
        if abs(sum(self.fractions) - 1) > 1e-6 or self.fractions[0] < 0:
            raise ValueError(
                f"replay.selection: uniform {self.uniform}, priority {self.priority} and recency {self.recency} must "
                "add up to 1; omit uniform to give it the rest."
            )

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Fractions of items sampled uniformly, by priority and by recency."""
        rest = 1 - self.priority - self.recency
        return rest if self.uniform is None else self.uniform, self.priority, self.recency

    @property
    def step_bytes(self) -> int:
        """Memory that selection takes per step of capacity."""
        return (PRIORITY_BYTES if self.priority else 0) + (RECENCY_BYTES if self.recency else 0)


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Where replay is stored, how much it keeps and how it is sampled."""

    store: str = "memory"
    """`memory`, `disk` (durable files, larger than memory), or the URLs of Redis servers, separated by commas.
    `memory` is in this process in inline mode; in local and cluster mode it is in Ray actors and also called `ray`.
    URLs are `redis://host[:port][/db]`, `rediss://` (TLS) or `unix:///socket`.
    The password comes from NEXUS_REDIS_PASSWORD."""
    directory: str = ""
    """Where `disk` keeps its files, on a fast local disk; empty for the run's own `replay` folder.
    A directory given here never goes back to a checkpoint, since other runs may write to it too."""
    compression: str = ""
    """`lz4` compresses the rows of `disk`: images about three times, and sampling is slower. Needs the extra lz4."""
    prefix: str = ""
    """Prefix of all keys on the Redis servers; empty for one of the run's own, so that runs can share servers."""
    capacity: int = 5_000_000
    """Steps (items) over all shards."""
    capacity_gb: float = 0.0
    """Largest size over all shards in 1e9 bytes; 0 for no bound besides `capacity`."""
    chunk_length: int = 0
    """Steps per chunk, stored contiguously; 0 lets the store choose."""
    shards: int = 2
    """Number of shards in memory and on disk, each a process of its own unless inline; Redis has one per server."""
    online: bool = True
    """Sample each stream's newest sequences once before any others."""
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    tolerance: float = 0.0
    """Sampled steps by which sampling and inserting may deviate from the train ratio, in local and cluster
    mode. 0 allows just what the largest block and batch need."""

    def __post_init__(self) -> None:
        for name, low in (("capacity", 1), ("chunk_length", 0), ("shards", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"replay.{name} is {getattr(self, name)} but must be at least {low}; raise it.")
        for name in ("capacity_gb", "tolerance"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"replay.{name} is {getattr(self, name)} but must be at least 0; 0 is off.")
        chosen = self.selection
        if chosen.priority and math.isinf(chosen.initial) and not chosen.zero_on_sample:
            raise ValueError(
                "replay.selection.zero_on_sample is off and initial is inf: a stream's first step, which training uses "
                "as context only, would never get a priority and be sampled forever. Set initial to 1, for example."
            )
        if self.compression not in ("", "lz4"):
            raise ValueError(f"replay.compression={self.compression!r} is not supported; use lz4, or omit it.")
        if self.compression and self.kind != "disk":
            raise ValueError(f"replay.compression={self.compression} is for disk, not {self.store}; omit it.")
        if self.kind == "redis":
            self._check_servers()

    def _check_servers(self) -> None:
        if not any(form in self.store for form in URLS):
            said = "" if "@" in self.store else f"={self.store!r}"  # it may hold a password
            raise ValueError(
                f"replay.store{said} is none of memory, ray, disk, nor a URL that begins with {', '.join(URLS)}; "
                "choose one."
            )
        try:
            parse_servers(self.store, {PASSWORD_VARIABLE: "-"})  # who only reads the configuration needs none
        except ValueError as error:
            raise ValueError(f"replay.store: {error}") from None

    @property
    def kind(self) -> Literal["memory", "disk", "redis"]:
        """What the shards are made of."""
        if self.store in ("memory", "ray"):
            return "memory"
        return "disk" if self.store == "disk" else "redis"

    @property
    def urls(self) -> tuple[str, ...]:
        """The Redis servers, one a shard."""
        return tuple(self.store.split(",")) if self.kind == "redis" else ()

    @property
    def shard_count(self) -> int:
        return len(self.urls) or self.shards
