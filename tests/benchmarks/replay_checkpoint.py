"""`python -m tests.benchmarks.replay_checkpoint`: what a checkpoint of a memory shard costs those who use it meanwhile.

A sampler without a pause, and a writer and a write-back at a pace, work beside three checkpoints in a row: of
everything, of what has changed during the first one, and, once writer and write-back have ended, of one small change
that is known to the byte. Stalls are the longest call of each; those without a checkpoint stand beside them.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from replay.memory.memory_store import MemoryStore
from replay.step import Field, Schema
from tests.benchmarks.machine import describe, matmul_rate, median, versions
from tests.benchmarks.replay_systems import BATCH, BLOCK, LENGTH, keep_memory
from tests.benchmarks.replay_work import Content

Report = dict[str, Any]


def schema(step_bytes: int, latent_bytes: int) -> Schema:
    """A vector and flags, and latents of so many of a step's bytes."""
    flags = {key: Field(dtype=np.dtype(np.bool_)) for key in ("is_first", "is_last", "is_terminal")}
    vector = Field(dtype=np.dtype(np.float32), shape=((step_bytes - latent_bytes - len(flags)) // 4,))
    deter = Field(dtype=np.dtype(np.float16), shape=(latent_bytes // 2,))
    return Schema(fields={"vector": vector, **flags}, latents={"deter": deter} if latent_bytes else {})


class Worker:
    """Makes calls and does them, `pause` seconds apart, and keeps when each began and ended."""

    def __init__(self, make: Callable[[], Callable[[], Any]], pause: float = 0.0) -> None:
        self._make, self._pause = make, pause
        self.calls: list[tuple[float, float]] = []
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not (self._stop.wait(self._pause) if self._pause else self._stop.is_set()):
                call, begun = self._make(), time.perf_counter()
                call()
                self.calls.append((begun, time.perf_counter()))
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self._stop.set()
        self._thread.join(60)
        if self.error:
            raise self.error

    def between(self, begun: float, ended: float) -> Report:
        """Of the calls that overlap this time: how many, the longest and the median."""
        took = [1e3 * (b - a) for a, b in list(self.calls) if b >= begun and a <= ended]
        return {"calls": len(took), "longest_ms": max(took, default=0.0), "median_ms": median(took) if took else 0.0}


class Traffic:
    """A sampler, a writer and a write-back on one store. What they change is counted, and known byte by byte."""

    def __init__(self, store: MemoryStore, content: Content) -> None:
        self.store, self.content = store, content
        self.refreshed: list[np.ndarray] = []
        self._rng = [np.random.default_rng(seed) for seed in range(2)]
        self._making = threading.Lock()  # what is written; the store is not called under it

    def sample(self) -> Callable[[], Any]:
        return lambda: self.store.sample(BATCH, LENGTH, self._rng[0])

    def append(self) -> Callable[[], Any]:
        """A block of every stream."""
        with self._making:
            [blocks] = self.content.blocks(BLOCK, BLOCK)
        return lambda: self.store.append_checked(blocks)

    def write_back(self) -> Callable[[], Any]:
        """New latents for every step of a batch."""
        keys = self.store.sample(BATCH, LENGTH, self._rng[1], 60.0, False)[1]
        with self._making:
            latents = self.content.refreshed(keys)
        self.refreshed.append(keys.reshape(-1, 2))
        return lambda: self.store.write_back(keys, latents)


def written(directory: Path, before: Path | None) -> dict[str, int]:
    """Bytes by the kind of file, of those alone that an earlier checkpoint does not have."""
    old = {path.stat().st_ino for path in before.iterdir()} if before else set()
    out: dict[str, int] = {}
    for path in directory.iterdir():
        if path.stat().st_ino not in old:
            kind = path.name.split("-")[0].split(".")[0]
            out[kind] = out.get(kind, 0) + path.stat().st_size
    return out


def run(options: argparse.Namespace, folder: Path, say: Callable[[str], object]) -> Report:
    """Figures of the three checkpoints."""
    step = schema(options.step_bytes, options.latent_bytes)
    content = Content(step, options.streams)
    store = MemoryStore(step, length=LENGTH, capacity=options.steps, streams=options.streams)
    for blocks in content.blocks(options.steps // options.streams, 256):
        store.append_checked(blocks)
    say(f"filled with {options.steps:,} steps")
    traffic = Traffic(store, content)
    workers = {
        "sample": Worker(traffic.sample),
        "append": Worker(traffic.append, options.pause),
        "write_back": Worker(traffic.write_back, options.pause),
    }
    row, latent = step.row_dtype.itemsize, step.latent_dtype.itemsize
    inserted, refreshed = store.stats()["inserted"] - len(store), 0
    report: Report = {}
    times: dict[str, tuple[float, float]] = {}

    def save(name: str, before: str = "") -> None:
        nonlocal inserted, refreshed
        total, done = store.stats()["inserted"], len(traffic.refreshed)
        changed = np.concatenate([*traffic.refreshed[refreshed:done], np.empty((0, 2), np.int64)])
        begun = time.perf_counter()
        store.checkpoint(folder / name)
        times[name] = begun, time.perf_counter()
        kinds = written(folder / name, folder / before if before else None)
        held = sum(path.stat().st_size for path in (folder / name).iterdir())
        new, fresh = (int(total - inserted), len(np.unique(changed, axis=0))) if before else (len(store), 0)
        inserted, refreshed = total, done
        report[name] = {
            "seconds": times[name][1] - begun,
            "bytes_written": sum(kinds.values()),
            "bytes_of_latents": kinds.get("latents", 0),
            "bytes_by_kind": kinds,
            "bytes_held": held,
            "steps_new": new,
            "steps_refreshed": fresh,
            "bytes_changed": new * (row + latent + 16) + fresh * latent,
        }
        report[name]["written_over_changed"] = report[name]["bytes_written"] / max(1, report[name]["bytes_changed"])

    try:
        begun = time.perf_counter()
        time.sleep(options.seconds)
        report["without"] = {"seconds": options.seconds}
        times["without"] = begun, time.perf_counter()
        save("everything")
        save("meanwhile", "everything")
        for name in ("append", "write_back"):
            workers[name].end()
        save("settled", "meanwhile")
        for call in (traffic.append(), traffic.write_back()):
            call()
        save("small", "settled")
    finally:
        for worker in workers.values():
            worker.end()
    for name, (begun, ended) in times.items():
        each = {who: worker.between(begun, ended) for who, worker in workers.items()}
        report[name] |= {"longest_ms": max(one["longest_ms"] for one in each.values()), "stalls": each}
        say(f"{name}: {json.dumps(report[name])}")
    again = MemoryStore(step, length=LENGTH, capacity=options.steps, streams=options.streams)
    again.restore(folder / "small")
    rng = np.random.default_rng(3)
    for _ in range(options.checked):
        content.check(again.sample(BATCH, LENGTH, rng, online=False))
    longest = max(report[name]["longest_ms"] for name in times if name != "without")
    head = {"name": "replay/checkpoint", "value": longest, "unit": "ms longest stall"}
    about = {"steps": options.steps, "streams": options.streams, "step_bytes": row + latent, "latent_bytes": latent}
    return head | about | {"batches_checked": options.checked} | report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.replay_checkpoint", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps the shard holds")
    parser.add_argument("--step-bytes", type=int, default=1000, help="of one step, latents included")
    parser.add_argument("--latent-bytes", type=int, default=256, help="how many of them are latents")
    parser.add_argument("--streams", type=int, default=16, help="environments that write at the same time")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between appends, and between write-backs")
    parser.add_argument("--seconds", type=float, default=5.0, help="without a checkpoint, for comparison")
    parser.add_argument("--checked", type=int, default=200, help="batches of the restored store that are checked")
    parser.add_argument("--folder", default="", help="where the checkpoints lie for the time; a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone, progress to stderr")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_memory()
    cpu = torch.device("cpu")
    gflops = matmul_rate(cpu)
    folder = Path(tempfile.mkdtemp(prefix="replay-checkpoint-", dir=options.folder or None))
    try:
        measured = run(options, folder, partial(print, file=sys.stderr, flush=True))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    machine = {"device": describe(cpu), "load": os.getloadavg()[0], "versions": versions()}
    print(json.dumps(measured | machine | {"matmul_gflops": median(gflops + matmul_rate(cpu))}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
