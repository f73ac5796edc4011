"""Whether replay stays fast as it grows: many items, many files, many writers."""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from replay.indexing.index import Index
from replay.memory.memory_store import MemoryStore
from tests.benchmarks.machine import median
from tests.benchmarks.replay_stores import Opener, disk_store
from tests.benchmarks.replay_systems import BATCH, BLOCK, LENGTH, Job, System, measure
from tests.benchmarks.replay_work import Content, payload, schema

STEP_BYTES = 1000
WRITERS = (16, 64)
DRAWS = 200  # between two looks at the clock
SLICES = 10  # of a round: the counts take turns, so that whatever else the machine does meets all of them
Say = Callable[[str], object]
Figures = dict[str, Any]


def items(counts: Sequence[int], rounds: int, batches: int, say: Say, streams: int = 64) -> Figures:
    """Microseconds to draw the places of a batch, and for a whole batch, out of so many items of 1 kB steps."""
    rng = np.random.default_rng(0)
    systems, indices = {}, {}
    for count in counts:
        each = -(-count // streams // (4 * BLOCK)) * 4 * BLOCK + LENGTH - 1
        store = MemoryStore(schema(STEP_BYTES), length=LENGTH, capacity=count, streams=streams)
        systems[count] = System(f"{count:,} items", store, Content(store.schema, streams))
        for blocks in systems[count].content.blocks(each, 4 * BLOCK):
            store.append_checked(blocks)
        indices[count] = _index(count, each, streams, store.chunk_length, store.slots)
        assert len(store) == len(indices[count]) == count, f"{len(store)} and {len(indices[count])} items, not {count}"
        say(f"{len(store):,} items in {store.stats()['gb']:.2f} GB of memory")
    seconds: dict[str, dict[int, list[float]]] = {kind: {c: [] for c in counts} for kind in ("draw", "batch")}
    for _ in range(SLICES * rounds):
        for count in counts:
            seconds["draw"][count].append(1 / measure(partial(_draws, indices[count], rng), 0.0, 1).rate())
            plain = systems[count].plain
            measure(plain, 0.0, 1)
            seconds["batch"][count] += [1 / measure(plain, 0.0, 1).rate() for _ in range(-(-batches // SLICES))]
    figures: Figures = {"step_bytes": STEP_BYTES, "items": list(counts)}
    for kind, each_count in seconds.items():
        middle = {count: 1e6 * median(values) for count, values in each_count.items()}
        figures |= {f"{kind}_us": list(middle.values()), f"{kind}_ratio": middle[counts[-1]] / middle[counts[0]]}
    return figures


def _draws(index: Index, rng: np.random.Generator) -> Job:
    return Job(lambda: [index.draw(BATCH, rng, False) for _ in range(DRAWS)], DRAWS)


def _index(count: int, each: int, streams: int, chunk_length: int, slots: int) -> Index:
    """The bookkeeping alone: draws meet its caches, not the payload's."""
    index = Index(length=LENGTH, chunk_length=chunk_length, slots=slots, capacity=count, online=False)
    for first in range(0, each, 4 * BLOCK):
        for stream in range(streams):
            for _ in index.extend(stream, first, min(4 * BLOCK, each - first)):
                pass
    return index


def opening(folder: Path, gigabytes: float, say: Say, streams: int = 16) -> Figures:
    """Seconds to open a disk store of so many GB of real rows that no cache holds, and to get its first batch."""
    content = Content(schema(), streams)
    steps = int(gigabytes * 1e9 / payload(content.schema) / streams / (4 * BLOCK)) * 4 * BLOCK * streams
    with ExitStack() as stack:
        system = System("disk", disk_store(folder, content.schema, steps, streams), content)
        stack.callback(system.store.close)
        tally = system.fill(steps)
        say(f"{steps:,} steps on disk, {tally.rate():,.0f} steps/s")
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        _forget(path)
    start = time.perf_counter()
    system.store = disk_store(folder, content.schema, steps, streams)
    opened = time.perf_counter()
    try:
        sample = system.sample()
        first = time.perf_counter()
        content.check(sample)
        return {
            "payload": "real",
            "gb": steps * payload(content.schema) / 1e9,
            "disk_gb": sum(path.stat().st_blocks for path in files) * 512 / 1e9,
            "files": len(files),
            "items": len(system.store),
            "fill_steps_s": tally.rate(),
            "open_seconds": opened - start,
            "first_batch_seconds": first - opened,
        }
    finally:
        system.store.close()


def _forget(path: Path) -> None:
    """Have the kernel drop a file's pages, so that opening it reads the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def writers(names: Sequence[str], rounds: int, seconds: float, steps: int, say: Say) -> dict[str, Figures]:
    """Insert rates of 16 and of 64 streams that write at the same time, the same kind of store each."""
    figures: dict[str, Figures] = {}
    for name in names:
        with ExitStack() as stack:
            systems = {n: Opener(schema(), steps, n, stack).open(name) for n in WRITERS}
            rates: dict[int, list[float]] = {n: [] for n in WRITERS}
            for system in systems.values():
                system.fill(steps)
            for _ in range(rounds):
                for n, system in systems.items():
                    system.settle()
                    measure(system.add, 0.0, 1)
                    rates[n].append(measure(system.add, seconds, 100).rate())
        middle = {n: median(rates[n]) for n in WRITERS}
        figures[name] = {f"insert_steps_s_{n}_streams": rate for n, rate in middle.items()} | {
            "ratio": middle[WRITERS[1]] / middle[WRITERS[0]]
        }
        say(f"{name}: " + ", ".join(f"{n} streams {rate:,.0f} steps/s" for n, rate in middle.items()))
    return figures


def scale(options: argparse.Namespace, names: Sequence[str], say: Say) -> Figures:
    """All of it."""
    drawn = items(options.items, options.rounds, options.batches, say)
    report: Figures = {"name": "replay/scale", "value": drawn["draw_ratio"], "unit": "x", "items": drawn}
    if "disk" in names and options.disk_gb:
        folder = Path(tempfile.mkdtemp(prefix="replay-benchmark-", dir=options.folder or None))
        try:
            report["disk"] = opening(folder / "store", options.disk_gb, say)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    insert = [name for name in names if name != "ceiling"]
    return report | {"writers": writers(insert, options.rounds, options.seconds, options.steps, say)}
