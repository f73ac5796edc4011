"""What replay will take, known before the run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

from deploy.config import RunConfig
from deploy.stores import replay_directory, shard, shard_names
from deploy.task import replay_schema, spaces_of
from replay.step import Schema


def require_memory(config: RunConfig, note: Callable[[str], None]) -> None:
    """`note` the estimate of replay's size; ValueError where it exceeds the memory or the disk there is."""
    schema = replay_schema(*spaces_of(config), config.model)
    steps = min(config.replay.capacity, config.frames // config.environment.action_repeat)
    kind = config.replay.kind
    full = _full_gb(schema, config, steps)
    head = f"Replay: up to {steps:,} steps of {schema.nbytes:,} bytes, {full:.2f} GB when full"
    bound = "--replay.capacity, or bound it by --replay.capacity-gb"
    if kind == "redis":
        note(f"{head}, on {len(config.replay.urls)} Redis servers; set their maxmemory above that.")
    elif kind == "disk":
        directory = replay_directory(config)
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free / 1e9 + _used_gb(directory)
        note(f"{head}; {free:.1f} GB of disk are free in {there}.")
        if full > 0.95 * free:
            raise ValueError(
                f"A full replay of {steps:,} steps takes {full:.1f} GB, {free:.1f} GB of disk are free in {there}. "
                f"Name another --replay.directory, lower {bound} {0.8 * free:.0f}."
            )
    else:
        available = psutil.virtual_memory().available / 1e9
        note(f"{head}; {available:.1f} GB of memory are free.")
        if full > 0.9 * available:
            raise ValueError(
                f"A full replay of {steps:,} steps takes {full:.1f} GB, {available:.1f} GB of memory are free. Keep it "
                f"on disk with --replay disk, lower {bound} {0.5 * available:.0f}."
            )


def _full_gb(schema: Schema, config: RunConfig, steps: int) -> float:
    """Of all shards once `steps` are in; a store in memory knows its bound, partly filled chunks included."""
    if config.replay.kind != "memory":
        return min(schema.estimate_gb(steps), config.replay.capacity_gb or float("inf"))
    most = sum(
        float(shard(name, schema, config, lambda line: None).stats()["max_gb"]) for name in shard_names(config)
    )  # no page of it is touched, so this takes no memory
    return most * min(1.0, steps / config.replay.capacity)


def _used_gb(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e9
