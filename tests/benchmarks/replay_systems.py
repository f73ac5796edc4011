"""What the replay benchmark measures of a store: jobs that are made, timed, and checked behind the clock's back."""

import ctypes
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from replay.prefetch import Prefetch
from replay.store import Sample
from replay.writer import Writer
from tests.benchmarks.replay_work import Content

BATCH, LENGTH = 16, 65
BLOCK = 16  # steps of one stream in an append
VECTORS = 32  # steps of all streams between two looks at the clock
DEPTH = 2  # of the prefetch
BURST = 4  # batches timed as one where a prefetch makes them: else it would work while the last one is checked
_TRIM, _MMAP, _ARENAS = -1, -3, -8  # options of glibc's mallopt
ADD, APPEND, REFRESH = "insert", "insert_blocks", "write_back"


class Job(NamedTuple):
    """`run` is timed and does `units` of work; what it returns goes to `check`, which is not timed."""

    run: Callable[[], Any]
    units: int
    check: Callable[[Any], object] = lambda result: None


@dataclass
class Tally:
    """Seconds of work: wall, CPU of this process, CPU of its servers; page faults of this process."""

    units: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    server: float = 0.0
    faults: int = 0
    each: list[float] = field(default_factory=list)
    """Wall seconds a unit, of each job."""

    def rate(self) -> float:
        return self.units / max(self.wall, 1e-9)


def measure(make: Callable[[], Job], seconds: float, most: int, servers: Sequence[int] = ()) -> Tally:
    """Work for `seconds`, or until `most` jobs are done; making and checking them takes no part."""
    tally = Tally()
    for _ in range(most):
        job = make()
        server, faults = cpu_of(servers), _faults()
        cpu, wall = time.process_time(), time.perf_counter()
        result = job.run()
        wall = time.perf_counter() - wall
        tally.cpu += time.process_time() - cpu
        tally.faults += _faults() - faults
        tally.server += cpu_of(servers) - server
        tally.wall += wall
        tally.units += job.units
        tally.each.append(wall / max(1, job.units))
        job.check(result)
        del result, job  # memory of a batch that nobody holds is there for the next, as in a learner
        if tally.wall >= seconds:
            break
    return tally


def keep_memory() -> None:
    """Have malloc recycle memory, from one arena, instead of giving it back to the kernel.

    A batch costs four times its copy when its pages are new. Whether they are depends on how many batches are freed at
    a time, which a store does not decide. Now no batch's are, the ceiling's included.
    """
    libc = ctypes.CDLL(None)
    for option, value in ((_TRIM, 1 << 30), (_MMAP, 1 << 30), (_ARENAS, 1)):
        if sys.platform == "linux" and not libc.mallopt(option, value):
            print(f"mallopt({option}, {value}) is refused: rates contain page faults.", file=sys.stderr)


def cpu_of(processes: Sequence[int]) -> float:
    """CPU seconds that all threads of other processes have used."""
    nanoseconds = 0
    for process in processes:
        for thread in Path(f"/proc/{process}/task").glob("*/schedstat"):
            nanoseconds += int(thread.read_text().split()[0])
    return nanoseconds / 1e9


def resident(process: int) -> int:
    """Bytes of RAM that a process takes, apart from what it shares."""
    [line] = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@dataclass
class System:
    """A store and the content it is given. Subclasses say how it is asked for a batch."""

    name: str
    store: Any
    content: Content
    prefetch: bool = False
    servers: Callable[[], list[int]] = list
    """Processes whose CPU counts."""
    kept: Callable[[], float] = lambda: 0.0
    """Bytes it takes of memory or of disk."""
    settle: Callable[[], object] = lambda: None
    """Waits until what was appended lies where it shall stay."""
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _writer: Writer | None = None
    _written: int = 0  # step the writer goes on with

    def sample(self) -> Sample:
        sample: Sample = self.store.sample(BATCH, LENGTH, self.rng, 60.0, False)
        return sample

    def samplers(self) -> dict[str, Callable[[], Job]]:
        """Ways to get a batch; the first is the one whose rate counts."""
        plain = {"plain": self.plain}
        return {f"prefetch_{DEPTH}": self.ahead} | plain if self.prefetch else plain

    def plain(self) -> Job:
        return Job(self.sample, 1, self.content.check)

    def ahead(self) -> Job:
        """A burst of batches that a thread makes ahead; the ones that it made before the clock runs do not count."""
        prefetch = Prefetch(lambda number: self.sample(), depth=DEPTH)
        for _ in range(DEPTH + 1):
            self.content.check(prefetch())

        def check(burst: list[Sample]) -> None:
            prefetch.close()
            for sample in burst:
                self.content.check(sample)

        return Job(lambda: [prefetch() for _ in range(BURST)], BURST, check)

    def add(self) -> Job:
        """Steps of all streams, one at a time, through the writer that actors use."""
        streams = self.content.streams
        if self._writer is None:
            self._writer = Writer(self.store, streams, flush_steps=BLOCK, max_seconds=60.0)
        if self._written != self.content.next:
            for i, stream in enumerate(streams):
                self._writer.replace(i, stream, self.content.next)
        vectors, add = self.content.vectors(VECTORS), self._writer.add
        self._written = self.content.next
        return Job(lambda: [add(rows) for rows in vectors], VECTORS * len(streams))

    def append(self) -> Job:
        """Steps of all streams, a block of each."""
        blocks = list(self.content.blocks(VECTORS, BLOCK))
        return Job(lambda: [self.store.append_checked(some) for some in blocks], VECTORS * len(self.content.streams))

    def refresh(self) -> Job:
        """New latents for every step of a batch."""
        keys = self.sample()[1]
        latents = self.content.refreshed(keys)

        def check(written: int) -> None:
            assert written == BATCH * LENGTH, f"{self.name}: {written} latents written back of {BATCH * LENGTH}"

        return Job(lambda: self.store.write_back(keys, latents), 1, check)

    def jobs(self) -> dict[str, Callable[[], Job]]:
        return self.samplers() | {ADD: self.add, APPEND: self.append, REFRESH: self.refresh}

    def fill(self, steps: int) -> Tally:
        """The first steps, and the time until they lie where they shall stay."""
        streams, size = len(self.content.streams), 4 * BLOCK
        source = self.content.blocks(steps // streams, size)

        def make() -> Job:
            blocks = next(source)
            return Job(lambda: self.store.append_checked(blocks), size * streams)

        tally = measure(make, float("inf"), steps // streams // size, self.servers())
        last = measure(lambda: Job(self.settle, 0), 0.0, 1, self.servers())
        tally.wall, tally.cpu, tally.server = tally.wall + last.wall, tally.cpu + last.cpu, tally.server + last.server
        return tally
