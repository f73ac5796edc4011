"""Opens the stores that the replay benchmark measures, each as a run would."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version

from replay.memory_store import MemoryStore
from replay.step import Schema
from tests.benchmarks.replay_ceiling import Ceiling
from tests.benchmarks.replay_systems import LENGTH, System, resident
from tests.benchmarks.replay_work import Content

SYSTEMS = ("ceiling", "memory", "disk", "ray", "redis_unix", "redis_tcp", "redis_py_unix", "redis_py_tcp")


def replay_versions() -> dict[str, str]:
    return {name: version(name) for name in ("ray", "redis", "hiredis")}


def open_system(
    name: str, schema: Schema, steps: int, streams: int, stack: ExitStack, others: Sequence[System]
) -> System:
    """A new, empty one, closed with the stack; a server that one of the others has is shared, with its content."""
    content = Content(schema, streams)
    if name == "ceiling":
        return Ceiling(content, steps)
    if name == "memory":
        store = MemoryStore(schema, length=LENGTH, capacity=steps, streams=streams)
        return System(name, store, content, kept=partial(resident, os.getpid()))
    raise NotImplementedError(name)
