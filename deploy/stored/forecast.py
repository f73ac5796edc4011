"""Forecasts the size of replay and checkpoints before a run."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.stored.offline import frames_per_update
from deploy.stored.sources import open_sources
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import CHUNK_LENGTH, actor_streams, replay_directory, shard_names
from deploy.wiring.task import replay_schema
from learner.sequence import sample_length
from replay.byte_size import byte_size
from replay.counted import counted
from replay.disk.chunk_files import suitable_chunk_length
from replay.disk.disk_store import DiskStore
from replay.disk.manifest import read_manifest
from replay.indexing import indexed_store
from replay.indexing.room import Room
from replay.memory.memory_store import MemoryStore
from replay.redis import redis_layout
from replay.sharding import shard_of
from replay.step import Schema
from world_models.space import Spaces


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Bytes of replay at the end of a run: at least `least`; `most`, if every episode had only one step."""

    steps: str
    least: int
    most: int

    def __str__(self) -> str:
        sizes = dict.fromkeys(byte_size(nbytes) for nbytes in (self.least, self.most))
        return f"{self.steps}, {' to '.join(sizes)}"


BYTES_A_PARAMETER = 14
"""Checkpoint bytes per acting parameter: at least 1.15 parameters in the agent, each with two moments, at 4 bytes."""


def require_memory(config: RunConfig, spaces: tuple[Spaces, Spaces], note: Callable[[str], None]) -> None:
    """Report the forecast sizes of replay and checkpoints by `note`. Raises ValueError if one exceeds the available
    memory or disk."""
    forecast = forecast_replay(config, spaces)
    _require_replay(config, forecast, note)
    _require_checkpoints(config, forecast, note)


def _require_checkpoints(config: RunConfig, replay: Forecast, note: Callable[[str], None]) -> None:
    """Checkpoints that are kept, plus one being written. They contain replay in memory once; replay on disk is stored
    beside them."""
    logdir = Path(config.logdir)
    learner, steps = config.learner, config.frames // config.environment.action_repeat
    updates = steps * learner.train_ratio / (learner.batch_size * learner.batch_length)
    if each := frames_per_update(config):
        updates = config.frames / each
    copies = min(config.keep_checkpoints + 1, 1 + int(updates) // config.checkpoint_every)
    ensemble = 12 * config.exploration.parameters(config.model)  # with its moments
    anchor = 2 * config.model.acting_parameters if config.anchor.weight else 0  # half as many as act, or more
    least = copies * (BYTES_A_PARAMETER * config.model.acting_parameters + ensemble + anchor)
    beside = config.replay.kind == "disk" and not config.replay.directory
    least += replay.least if beside or config.replay.kind == "memory" else 0
    there, free = _disk(logdir, logdir)
    what = "Replay and checkpoints" if beside else "Checkpoints"
    text = f"{what}: {byte_size(least)} or more; {byte_size(free)} of disk space is free in {there}."
    if least > 0.95 * free:
        raise ValueError(f"{text} Choose another --logdir, or lower --keep-checkpoints or --replay.capacity.")
    note(text)


def _disk(folder: Path, used: Path) -> tuple[Path, int]:
    """The nearest existing parent folder, and the bytes that are free there or already in `used`."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    sizes: dict[int, int] = {}
    for path in used.rglob("*"):
        with suppress(FileNotFoundError):  # another process may be training there
            if path.is_file():
                stat = path.stat()
                sizes[stat.st_ino] = stat.st_size  # checkpoints share files
    return there, shutil.disk_usage(there).free + sum(sizes.values())


def _require_replay(config: RunConfig, forecast: Forecast, note: Callable[[str], None]) -> None:
    head, bound = f"Replay: {forecast}", "--replay.capacity, or bound it by --replay.capacity-gb"
    if config.replay.kind == "redis":
        servers = f"{len(config.replay.urls)} Redis servers" if len(config.replay.urls) > 1 else "the Redis server"
        note(f"{head}, on {servers}; set maxmemory above that.")
    elif config.replay.kind == "disk":
        directory = replay_directory(config)
        there, free = _disk(directory, directory)
        note(f"{head}; {byte_size(free)} of disk space is free in {there}.")
        if forecast.least > 0.95 * free:
            raise ValueError(
                f"{head}; {byte_size(free)} of disk space is free in {there}. Choose another --replay.directory, lower "
                f"{bound} {0.8 * free / 1e9:.3g}."
            )
    else:
        available = psutil.virtual_memory().available
        note(f"{head}; {byte_size(available)} of memory is free.")
        if forecast.least > 0.9 * available:
            raise ValueError(
                f"{head}; {byte_size(available)} of memory is free. Keep it on disk with --replay disk, lower {bound} "
                f"{0.5 * available / 1e9:.3g}."
            )


def forecast_replay(config: RunConfig, spaces: tuple[Spaces, Spaces]) -> Forecast:
    """Computed as the stores do: whole chunks of each stream, on the shard it belongs to."""
    schema, names = replay_schema(*spaces, config.model), shard_names(config)
    replay, capacity = config.replay, config.replay.capacity
    each = f"of {schema.nbytes:,} bytes"
    if config.offline:
        least = most = _source(config)
        total = sum(least.values())
        steps = (
            f"{min(total, capacity):,} of the {total:,} steps" if total > capacity else f"the {counted(total, 'step')}"
        )
        text = f"{steps} in {config.offline}, {each}"
    else:
        total = config.frames // config.environment.action_repeat
        actors = 1 if config.mode == "inline" else config.actor.actors
        streams = [stream for actor in range(actors) for stream in actor_streams(config, actor, actors, 0)]
        share = -(-total // len(streams))  # the first row of an episode is not an environment step
        least, most = dict.fromkeys(streams, share + 1), dict.fromkeys(streams, 2 * share + 1)
        if replay.directory or replay.prefix:  # steps of an earlier run may be there
            most = dict.fromkeys(streams, capacity)
        text = f"{counted(total, 'step')} {each} plus one for each episode"
        if total >= capacity:
            text = f"up to {counted(capacity, 'step')} {each}"
    rooms = [_room(schema, config, name) for name in names]

    def nbytes(steps_of: Mapping[int, int], whole: bool) -> int:
        shards = [[n for stream, n in steps_of.items() if shard_of(stream, names) == i] for i in range(len(names))]
        return sum(room.nbytes(some, whole) for room, some in zip(rooms, shards, strict=True))

    # A partly filled chunk takes its whole size in memory; on disk, its file holds only what is filled.
    return Forecast(steps=text, least=nbytes(least, replay.kind != "disk"), most=nbytes(most, True))


def _source(config: RunConfig) -> dict[int, int]:
    """The number of steps of each stream that an offline run copies."""
    sources = open_sources(config.offline, damaged=[])
    try:
        return {stream: len(steps) for source in sources for stream, steps in source.streams().items()}
    finally:
        for source in sources:
            source.close()


def _room(schema: Schema, config: RunConfig, name: str) -> Room:
    """Capacity of one shard; see `deploy.wiring.stores.shard`."""
    replay, streams, length = config.replay, config.actor.environments, sample_length(config.learner)
    capacity, capacity_gb = (
        max(1, replay.capacity // replay.shard_count),
        replay.capacity_gb / replay.shard_count or None,
    )
    if replay.kind == "redis":
        layout = redis_layout.plan(
            schema, length=length, chunk_length=replay.chunk_length, capacity=capacity, capacity_gb=capacity_gb,
            streams=streams,
        )  # fmt: skip
        return Room(
            length=length, chunk_length=layout.chunk_length, slots=layout.slots, slot_bytes=layout.slot_bytes,
            capacity=layout.capacity,
        )  # fmt: skip
    chunk_length = replay.chunk_length or CHUNK_LENGTH
    if replay.kind == "disk":
        stored = read_manifest(replay_directory(config) / name)
        chunk_length = int(stored.store["chunk_length"]) if stored and stored.store else replay.chunk_length
        chunk_length = chunk_length or suitable_chunk_length(schema, capacity, capacity_gb, streams)
    return indexed_store.plan(
        "Replay", schema, length=length, capacity=capacity, capacity_gb=capacity_gb, chunk_length=chunk_length,
        streams=streams, selection=replay.selection,
        step_bytes=(DiskStore if replay.kind == "disk" else MemoryStore).step_bytes,
    )  # fmt: skip
