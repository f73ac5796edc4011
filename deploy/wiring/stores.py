"""Builds the stores of a run's replay. Torch-free."""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from deploy.wiring.config import RunConfig
from deploy.wiring.fleet import Fleet
from learner.sequence import sample_length, start_items
from replay.awaited import AwaitedStore
from replay.counted import counted
from replay.keys import stream_id
from replay.memory.memory_store import MemoryStore
from replay.sharding import ShardedStore
from replay.step import Schema
from replay.store import ShardDownError, Store

Note = Callable[[str], None]
Waiting = Callable[[], AbstractContextManager[None]]
CHUNK_LENGTH = 256  # steps stored contiguously in memory
PATIENCE = 600.0  # seconds a call waits for the only shard to come back, or for a busy one (writing a checkpoint, say)
DOWN = 15.0  # seconds after which a shard is skipped if there are others


def shard_names(config: RunConfig) -> list[str]:
    """Names of the shards: as Ray actors, as folders of checkpoints and of disk stores."""
    return [f"shard-{i}" for i in range(config.replay.shard_count)]


def shard(name: str, schema: Schema, config: RunConfig, note: Note) -> Store:
    """One shard in this process: memory, or a folder on disk. Capacities are divided evenly among shards."""
    replay = config.replay
    length = sample_length(config.learner)
    capacity = max(1, replay.capacity // replay.shard_count)
    capacity_gb = replay.capacity_gb / replay.shard_count or None
    if replay.kind == "disk":
        from replay.disk.disk_store import DiskStore

        return DiskStore(
            replay_directory(config) / name, schema, length=length, capacity=capacity, capacity_gb=capacity_gb,
            chunk_length=replay.chunk_length, streams=config.actor.environments, online=replay.online,
            selection=replay.selection, note=note, compression=replay.compression,
        )  # fmt: skip
    return MemoryStore(
        schema, length=length, capacity=capacity, capacity_gb=capacity_gb,
        chunk_length=replay.chunk_length or CHUNK_LENGTH, streams=config.actor.environments, online=replay.online,
        selection=replay.selection,
    )  # fmt: skip


def redis_shards(
    schema: Schema, config: RunConfig, note: Note, *, samples: bool = False, patience: float = 0.0, known: bool = False
) -> list[Store]:
    """One store per Redis server. If some of several are down, they are awaited; raises ShardDownError if none answers.

    Only a process that `samples` needs an online queue, and with it its own index. `patience`: seconds to wait for a
    server; 0 means as long as suits a process that cannot work without it. `known`: the run has used the servers
    before; otherwise waiting ends within seconds, with a ValueError saying what is wrong with a server.
    """
    from replay.redis.redis_store import RedisStore

    replay, length = config.replay, sample_length(config.learner)

    def opener(url: str) -> Callable[[], Store]:
        return lambda: RedisStore(
            url, schema, prefix=replay_prefix(config), length=length,
            capacity=max(1, replay.capacity // replay.shard_count),
            capacity_gb=replay.capacity_gb / replay.shard_count or None, chunk_length=replay.chunk_length,
            streams=config.actor.environments, online=replay.online and samples, selection=replay.selection, note=note,
            patience=patience or (DOWN if len(replay.urls) > 1 else PATIENCE), known=known,
        )  # fmt: skip

    shards: list[Store] = []
    down: list[ShardDownError] = []
    for url in replay.urls:
        try:
            shards.append(opener(url)())
        except ShardDownError as error:
            down.append(error)
            shards.append(AwaitedStore(opener(url), schema, length, durable=True))
    if len(down) == len(shards):
        raise down[0]
    return shards


def inline_store(schema: Schema, config: RunConfig, note: Note, waiting: Waiting = nullcontext) -> ShardedStore:
    """Replay of inline mode: in this process, or on Redis servers; waits for them happen in a `waiting()` block."""
    names = shard_names(config)
    if config.replay.kind == "redis":
        shards = redis_shards(schema, config, note, samples=True)
        return ShardedStore(shards, names, parallel=True, note=note, waiting=waiting)
    return ShardedStore([shard(name, schema, config, note) for name in names], names, note=note)


def rolls_back(config: RunConfig) -> bool:
    """Whether a run that continues restores its replay from the checkpoint and continues its streams.

    Any other replay is kept as it is, and the run begins new streams: a replay directory given by name may hold other
    runs' steps too.
    """
    replay = config.replay
    return replay.kind == "memory" or config.mode == "inline" and replay.kind == "disk" and not replay.directory


def replay_directory(config: RunConfig) -> Path:
    """The directory of a disk replay's shards."""
    return Path(config.replay.directory or Path(config.logdir) / "replay")


def damage(config: RunConfig) -> str:
    """The message at a run's end about damaged parts of its disk replay that were set aside; empty without any."""
    folder = replay_directory(config)
    aside = sorted(folder.glob("shard-*/chunks/*.damaged")) if config.replay.kind == "disk" else []
    if not aside:
        return ""
    files = f"{counted(len(aside), 'file')}, such as {aside[0].relative_to(folder)}"
    return f"Damaged and left out of the replay in {folder}: {files}."


def replay_prefix(config: RunConfig) -> str:
    """The prefix of this run's keys on Redis: the same for the same logdir, different for any other."""
    if config.replay.prefix:
        return config.replay.prefix
    path = os.path.abspath(config.logdir)
    return f"nexus:{Path(path).name}-{hashlib.blake2b(path.encode(), digest_size=4).hexdigest()}"


def actor_streams(config: RunConfig, actor: int, actors: int, incarnation: int) -> list[int]:
    """The streams of one life of actor number `actor` of `actors`, one per environment."""
    share = Fleet(config.actor.environments, actors).share(actor)
    return [stream_id(actor, incarnation, slot) for slot in share.slots]


def require_room(store: ShardedStore, config: RunConfig, streams: Sequence[int]) -> None:
    """Raises ValueError if replay can never hold as many sequences of these streams as training needs to start. Not
    checked while a shard is down: replay was large enough when the run began."""
    needed, each = start_items(config.learner), store.spread(streams)
    if store.down or (room := store.room(streams)) >= needed:
        return
    replay, shards = config.replay, len(store.shards)
    least = -(-needed // len(each)) * shards
    if replay.capacity < least:
        more = f"replay.capacity={replay.capacity} to {least}"
    else:
        more = f"replay.capacity_gb={replay.capacity_gb:g}" if replay.capacity_gb else "the servers' maxmemory"
    fewer = "Redis servers" if replay.urls else "replay.shards"
    raise ValueError(
        f"Training starts at {counted(needed, 'sequence')}, but replay holds at most {room:,} of {store.length} steps: "
        f"its capacity is divided among {counted(shards, 'shard')}, and the "
        f"{counted(len(streams), 'environment writes', 'environments write')} to {len(each)} of them. "
        f"Raise {more}, use fewer {fewer} or more actor.environments"
        + (f", or lower learner.start_items to {room}." if room else ".")
    )


def require_empty(store: ShardedStore, config: RunConfig) -> None:
    """Raises ValueError if a new run finds another run's steps in a durable replay that it was not told to continue, or
    if a shard is down."""
    steps = int(store.stats()["steps"])
    if store.down:
        away = [url for url, name in zip(config.replay.urls, store.names, strict=True) if name in store.down]
        raise ValueError(f"{' and '.join(away)} cannot be reached; a new run needs all its Redis servers.")
    named = config.replay.prefix if config.replay.kind == "redis" else config.replay.directory
    if not store.durable or named or not steps:
        return
    if config.replay.kind == "redis":
        where = f"under the prefix {replay_prefix(config)} on {counted(len(config.replay.urls), 'Redis server')}"
        remedy = f"--replay.prefix {replay_prefix(config)}"
    else:
        where, remedy = f"in {replay_directory(config)}", f"--replay.directory {replay_directory(config)}"
    raise ValueError(
        f"Replay {where} already holds {counted(steps, 'step')} of an earlier run, but {config.logdir} is new. Use "
        f"another --logdir, or {remedy} to continue with these steps."
    )
