"""A disk store on a small file system, in one process with its writers and sampler, and what is done to them."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from replay.disk.disk_store import DiskStore
from replay.store import Block
from tests.benchmarks.replay_soak_ledger import Audit, Ledger, Loss
from tests.benchmarks.replay_soak_rows import LENGTH, SCHEMA
from tests.benchmarks.replay_soak_site import GOES_ON, Fault, Kind, Site, SoakError
from tests.benchmarks.replay_soak_workers import Pipe, Worker, audit, failing, sample, sizes, write

WRITERS, STREAMS = 2, 16
CAPACITY, CHUNK = 10_000, 64
KEEP = 1.0
"""Seconds after which chunks that fill are kept."""
WRITTEN = 2.0
"""Seconds in which a chunk is written."""
WAITING = STREAMS + WRITERS
"""Full chunks that wait for a full disk, at most."""

Explains = Callable[[int, Loss], bool]


class _ToldStore(DiskStore):
    told: Callable[[Any], None] = staticmethod(lambda blocks: None)

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        new = []
        for block in blocks:
            new += super().append_checked([block])
            self.told(sizes([block]))
        return new


def keep(pipe: Pipe, who: str, directory: Path, life: int, seed: int, ends: Mapping[int, int]) -> None:
    """Open the store, tell what is there, and work on it; `go`, `audit` and `close` are heard."""
    store = _ToldStore(
        directory, SCHEMA, length=LENGTH, capacity=CAPACITY, chunk_length=CHUNK, streams=STREAMS,
        keep_seconds=KEEP, note=lambda line: pipe.tell(who, "note", line),
    )  # fmt: skip
    store.told = lambda blocks: pipe.tell(who, "took", (0, blocks))
    pipe.tell(who, "opened", audit(store, CHUNK))
    stop = threading.Event()
    seeds = np.random.SeedSequence(seed).spawn(WRITERS + 1)

    def down() -> list[str]:
        return []

    def work(name: str, function: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            with failing(pipe, name):
                function(pipe, name, store, *arguments)

        thread = threading.Thread(target=run, name=name)
        thread.start()
        return thread

    threads = []
    while (command := pipe.hear()) != "close":
        if command == "go":
            for actor, own in enumerate(seeds[1:]):
                rng = np.random.default_rng(own)
                threads.append(work(f"disk writer {actor}", write, actor, life, rng, ends, down, stop))
            rng = np.random.default_rng(seeds[0])
            threads.append(work("disk sampler", sample, life, rng, down, stop))
        elif command == "audit":
            pipe.tell(who, "audit", audit(store, CHUNK))
    stop.set()
    for thread in threads:
        thread.join()
    store.close()
    pipe.tell(who, "closed")


def nothing(store: int, loss: Loss) -> bool:
    """No loss is explained."""
    return False


class DiskSite(Site):
    name = "disk"

    def __init__(self, seed: int, only: Sequence[str], directory: Path, small: bool) -> None:
        """`small`: the directory is a file system that may be filled."""
        last = f"steps of the last {KEEP + WRITTEN:g} s"
        self.kinds = {
            "process killed": Kind(3, last, self.kill),
            "process killed in a write-back": Kind(2, last, self.kill_in_write_back),
            "process closed": Kind(1, "nothing", self.close),
            "byte of a chunk flipped": Kind(2, f"the chunk, {last}", self.flip_rows),
            "byte of latents flipped": Kind(1, last, self.flip_latents),
            "manifest truncated": Kind(2, last, self.truncate_manifest),
        }
        if small:
            self.kinds |= {
                "disk full": Kind(2, "the oldest steps", self.fill),
                "disk full, process killed": Kind(
                    2, f"the oldest steps, open chunks and {WAITING} full ones", self.fill_and_kill
                ),
            }
        super().__init__(seed, only, [Ledger(LENGTH, CHUNK)], [CAPACITY])
        self.directory, self._store = directory, directory / "store"
        self._ballast = directory / "ballast"
        self._life, self._freed = 0, 0.0
        self._process: Worker

    def begin(self) -> None:
        self._open(0.0, nothing)

    def end(self) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
        self._ballast.unlink(missing_ok=True)

    def workers(self) -> list[str]:
        return [*(f"disk writer {actor}" for actor in range(WRITERS)), "disk sampler"]

    def look(self, store: int) -> Audit:
        asked = time.monotonic()
        self._process.send("audit")
        return self._answer(self._process.wait("audit", after=asked, timeout=GOES_ON))

    def kill(self) -> Fault:
        """Some processes are killed while they open the store, too."""
        killed = self._kill()
        if again := self.rng.random() < 0.3:
            self._start()
            time.sleep(self.rng.uniform(0.5, 2.5))
            self._process.kill()
        return self._open(killed, self._lately(killed), note="and the next one" if again else "")

    def kill_in_write_back(self) -> Fault:
        self.strike(self._process, "refreshed")
        killed = time.monotonic()
        note = self._process.kill("disk sampler")
        return self._open(killed, self._lately(killed), note=note)

    def close(self) -> Fault:
        self._close()
        return self._open(0.0, nothing)

    def flip_rows(self) -> Fault:
        explains, killed = self._end()
        path = self._flip("*.rows")
        stream, chunk = map(int, path.stem.split("-"))

        def damaged(store: int, loss: Loss) -> bool:
            return (loss.stream, loss.first // CHUNK) == (stream, chunk) or explains(store, loss)

        return self._open(killed, damaged)

    def flip_latents(self) -> Fault:
        explains, killed = self._end()
        self._flip("*.latents")
        return self._open(killed, explains)

    def truncate_manifest(self) -> Fault:
        explains, killed = self._end()
        path = self._store / "manifest"
        os.truncate(path, int(self.rng.integers(path.stat().st_size)))
        return self._open(killed, explains)

    def fill(self) -> Fault:
        """Something else takes the whole disk, and perhaps all that gets free, and gives it back later."""
        with self._filled():
            pass
        return Fault(time.monotonic(), shrinks=True)

    def fill_and_kill(self) -> Fault:
        """And the next process finds no room, or hardly any."""
        with self._filled():
            killed = self._kill()
            self.tolerates = "No space left on device"
            begun = self._start()
            event = self._process.wait("opened", "failed", after=begun, timeout=GOES_ON)
            note = "opened on the full disk" if event and event.kind == "opened" else "refused until there was room"
            self._process.kill()
            self.tolerates = ""
        waited: set[tuple[int, int]] = set()

        def explained(store: int, loss: Loss) -> bool:
            if loss.complete < killed - WRITTEN:
                waited.add((loss.stream, loss.first // CHUNK))
            return loss.tail and len(waited) <= WAITING

        return self._open(killed, explained, shrinks=True, note=note)

    def _start(self) -> float:
        self._life += 1
        seed = int(self.rng.integers(1 << 31))
        begun = time.monotonic()
        self._process = Worker(
            "disk", keep, self.take, directory=self._store, life=self._life, seed=seed, ends=self.ledgers[0].ends()
        )
        return begun

    def _open(self, killed: float, explains: Explains, **more: Any) -> Fault:
        """A process again; it works once it was seen what is there."""
        begun = self._start()
        content = self._answer(self._process.wait("opened", after=begun, timeout=GOES_ON))
        fault = Fault(begun, explains, killed=killed, **more)
        fault = fault._replace(lost=self.check(0, content, fault))
        self._process.send("go")
        return fault

    def _answer(self, event: Any) -> Audit:
        if event is None:
            raise SoakError(self.failed or f"The store did not answer within {GOES_ON:g} s.")
        assert isinstance(event.value, Audit)
        return event.value

    def _kill(self) -> float:
        killed = time.monotonic()
        self._process.kill()
        return killed

    def _close(self) -> None:
        asked = time.monotonic()
        self._process.send("close")
        if self._process.wait("closed", after=asked, timeout=GOES_ON) is None:
            raise SoakError(self.failed or f"The store did not close within {GOES_ON:g} s.")
        self._process.join()

    def _end(self) -> tuple[Explains, float]:
        """Kill or close, once there are chunks in files; what that explains."""
        deadline = time.monotonic() + GOES_ON
        while not any((self._store / "chunks").glob("*.rows")):
            if time.monotonic() > deadline:
                raise SoakError(f"There is no chunk file after {GOES_ON:g} s.")
            time.sleep(0.1)
        if self.rng.random() < 0.5:
            self._close()
            return nothing, 0.0
        killed = self._kill()
        return self._lately(killed), killed

    def _flip(self, pattern: str) -> Path:
        paths = sorted((self._store / "chunks").glob(pattern))
        path = paths[int(self.rng.integers(len(paths)))]
        with open(path, "r+b") as file:
            place = int(self.rng.integers(path.stat().st_size))
            file.seek(place)
            [byte] = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1 << int(self.rng.integers(8))]))
        return path

    def _lately(self, killed: float) -> Explains:
        """What was not kept yet, or just being written."""
        full = killed < self._freed + KEEP + WRITTEN  # what waited for room is hardly written yet
        return lambda store, loss: loss.tail and (full or loss.oldest >= killed - KEEP - WRITTEN)

    @contextlib.contextmanager
    def _filled(self) -> Iterator[None]:
        """Nothing is free for a while, nor inside; some ballasts take what the store gives up as well."""
        hungry, stop = self.rng.random() < 0.5, threading.Event()

        def eat() -> None:
            with open(self._ballast, "ab", buffering=0) as file:
                while not stop.is_set():
                    try:
                        while file.write(bytes(1 << 16)):
                            pass
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                    if not hungry:
                        return
                    stop.wait(0.001)

        eater = threading.Thread(target=eat)
        eater.start()
        try:
            time.sleep(self.rng.uniform(1, 5))
            yield
        finally:
            stop.set()
            eater.join()
            self._ballast.unlink()
            self._freed = time.monotonic()
