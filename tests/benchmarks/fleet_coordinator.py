"""`python -m tests.benchmarks.fleet coordinator`: how long a run's coordinator takes to answer 1,000 workers.

A real coordinator behind real Ray. Four client processes stand for the workers, each of which makes a block of rows a
second and reports several blocks at a time, as workers of a large fleet do, episodes and newest snapshot included; with
`--every-block` it reports each by itself. A learner samples, publishes and tells its progress; a supervisor takes the
news four times a second. First nobody has to wait for the rate limiter, then the learner takes only half of
what the workers could insert, so that hundreds of them wait in the coordinator at any time.

Prints percentiles, in milliseconds, of the answers that need not wait: the workers' in the first half, the learner's
and the supervisor's in both. Every time is taken by who asked, its own delays included. Fails if the 99th percentile of
any of them exceeds the goal.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import ray

from actors.batch_environment import Episode
from deploy.distributed.coordinator_client import COORDINATOR, CoordinatorClient
from deploy.distributed.messages import HELD, ActorReport, Answer, Limits, State
from deploy.distributed.ray_cluster import start_local
from deploy.distributed.remote import ask, start, this_node
from deploy.distributed.snapshots import SnapshotFetcher, put
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations
from world_models.snapshot import Snapshot

GOAL = 50.0  # milliseconds, 99th percentile
CLIENTS = 4
ROWS = 16  # of a block
ASK = 5.0  # seconds that the coordinator may hold back an answer
UPDATES = 20  # a second
PUBLISH = 10  # updates between snapshots
PARAMETERS = 1_000_000  # of a snapshot
PROGRESS = 0.5  # seconds between progress reports of the learner
TICK = 0.25  # seconds between looks of the supervisor
EPISODE = 160  # steps, about
WARM = 10.0  # seconds, until workers that started together report apart
UNBOUNDED = 1e12  # tolerance at which nobody waits
ENDING = 60.0  # seconds for everybody to end
Times = dict[str, list[float]]


class Crowd:
    """One client process, which stands for the workers `numbers`."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers, self.node = numbers, this_node()
        self.coordinator: Any = ray.get_actor(COORDINATOR)
        self.snapshots = SnapshotFetcher()
        self.versions = Counter[int]()  # of each worker's policy
        self.times: Times = {}
        self.waiting = self.most = 0

    async def enlist(self) -> None:
        """Let every worker begin its life."""
        await asyncio.gather(*(self.coordinator.call.remote("enlist", number) for number in self.numbers))

    async def act(self, begin: float, warm: float, end: float, credit: bool) -> dict[str, Any]:
        """Let every worker do a block a second from `begin` to `end` on the wall clock; what is answered before `warm`
        is not counted. `credit`: ask for several blocks at a time, as workers do."""
        self.times, self.most = {"go": [], "wait": [], "late": []}, 0
        await asyncio.gather(
            *(self._work(number, begin + i / len(self.numbers), warm, end, credit)
              for i, number in enumerate(self.numbers))
        )  # fmt: skip
        return {"times": self.times, "most_waiting": self.most}

    async def _work(self, number: int, due: float, warm: float, end: float, credit: bool) -> None:
        blocks, most = 0, 1
        while max(due, time.time()) < end:
            await asyncio.sleep(max(0.0, due - time.time()))
            self._count("late", time.time() - due, warm)
            granted = 0
            while not granted and time.time() < end:
                report = self._report(number, blocks)
                blocks, asked = 0, time.perf_counter()
                self.waiting += 1
                self.most = max(self.most, self.waiting if time.time() > warm else 0)
                held = min(HELD, max(0.0, end - time.time()))
                answer: Answer = await self.coordinator.call.remote("report", report, ROWS, held, most)
                self.waiting -= 1
                self._count(answer.verdict, time.perf_counter() - asked, warm)
                granted = answer.blocks if answer.verdict == "go" else 0
                if answer.published is not None:
                    self.versions[number] = answer.published.snapshot.version
                    self.snapshots.offer(answer.published)
            blocks = granted
            due = max(due, time.time() - 1.0) + granted  # a block is a second's work
            most = answer.most(granted or 1.0) if credit else 1

    def _count(self, what: str, seconds: float, warm: float) -> None:
        if time.time() > warm:
            self.times[what].append(seconds)

    def _report(self, number: int, blocks: int) -> ActorReport:
        rows = blocks * ROWS
        ended = [
            Episode(env_index=number, episode=0, seed=number, score=1.0, length=EPISODE, frames=rows)
            for _ in range(blocks) if random.random() < ROWS / EPISODE
        ]  # fmt: skip
        return ActorReport(
            worker=number, process=os.getpid(), node=self.node, rows=rows, frames=rows,
            version=self.versions[number], episodes=ended,
        )  # fmt: skip


class Learner:
    """A process that asks as the learner does, `UPDATES` times a second, for `rows` steps each time."""

    def __init__(self) -> None:
        self.coordinator = CoordinatorClient()
        self.buffer = np.zeros(PARAMETERS, np.float32)
        self.checksum = zlib.crc32(self.buffer.data)
        self.updates, self.warm = 0, 0.0
        self.coordinator.ask("rewind", 0, 1)
        self.publish({})

    def ask(self, times: Times, method: str, *arguments: Any) -> Any:
        asked = time.perf_counter()
        answer = self.coordinator.ask(method, *arguments)
        if time.time() > self.warm:
            times.setdefault(method, []).append(time.perf_counter() - asked)
        return answer

    def publish(self, times: Times) -> None:
        snapshot = Snapshot(
            version=0, updates=self.updates, time=time.time(), buffer=self.buffer, checksum=self.checksum
        )
        self.ask(times, "publish", put(snapshot))

    def learn(self, begin: float, warm: float, end: float, rows: int) -> dict[str, Any]:
        """Train from `begin` to `end` on the wall clock, measured from `warm` on; counts the samples that were granted
        and refused."""
        self.warm = warm
        times: Times = {}
        verdicts: Counter[str] = Counter()
        due, reported = begin, begin
        while due < end:
            time.sleep(max(0.0, due - time.time()))
            verdict = self.ask(times, "sample", rows, ASK)
            verdicts[verdict] += 1
            if verdict == "go":
                self.updates += 1
                if self.updates % PUBLISH == 0:
                    self.publish(times)
                if time.time() - reported > PROGRESS:
                    reported = time.time()
                    self.ask(times, "progress", self.updates, {"loss/total": 1.0})
            due = max(due + 1 / UPDATES, time.time() - 1.0)
        return {"times": times, "verdicts": dict(verdicts)}


class Supervisor:
    """Takes the news as the supervisor does, in a thread of this process."""

    def __init__(self, coordinator: Any) -> None:
        self.coordinator, self.times = coordinator, list[float]()
        self.episodes = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ending.wait(TICK):
            asked = time.perf_counter()
            news = ask(self.coordinator, "news")
            self.times.append(time.perf_counter() - asked)
            self.episodes += len(news.episodes)

    def end(self) -> list[float]:
        """Seconds that each answer took."""
        self._ending.set()
        self._thread.join(ENDING)
        return self.times


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    at = np.percentile(np.asarray(seconds) * 1e3, [50, 99, 99.9])
    return dict(zip(("p50", "p99", "p99.9"), at.round(2).tolist(), strict=True)) | {"count": len(seconds)}


def cores_used() -> tuple[float, float]:
    """Seconds of CPU that this process and its children have used so far, and all others of the machine."""
    own = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):  # it has just ended
            own += sum(process.cpu_times()[:2])
    machine = psutil.cpu_times()
    return own, sum(machine) - machine.idle - getattr(machine, "iowait", 0.0) - own


def phase(
    name: str,
    coordinator: Any,
    process: psutil.Process,
    crowds: Sequence[Any],
    learner: Any,
    credit: bool,
    warm: float,
    seconds: float,
    rows: int,
) -> dict[str, Any]:
    """Everybody at work, after `warm` seconds measured for `seconds`; the learner samples `rows` at a time."""
    begin = time.time()
    end = begin + warm + seconds
    asked = [crowd.call.remote("act", begin, begin + warm, end, credit) for crowd in crowds]
    learning = learner.call.remote("learn", begin + warm / 2, begin + warm, end, rows)
    time.sleep(warm)
    supervisor, busy, used = Supervisor(coordinator), sum(process.cpu_times()[:2]), cores_used()
    begin = time.time()
    time.sleep(seconds)
    busy, passed = sum(process.cpu_times()[:2]) - busy, time.time() - begin
    own, others = (after - before for before, after in zip(used, cores_used(), strict=True))
    news = supervisor.end()
    learnt, acted = ray.get(learning, timeout=ENDING), ray.get(asked, timeout=ENDING)
    times = {verdict: [t for one in acted for t in one["times"][verdict]] for verdict in ("go", "wait", "late")}
    calls = len(times["go"]) + len(times["wait"]) + sum(map(len, learnt["times"].values())) + len(news)
    answers = {f"learner_{method}": percentiles(seconds) for method, seconds in learnt["times"].items()}
    answers |= {"supervisor_news": percentiles(news)}
    held = {"held_back": percentiles(times["go"])}
    return {
        "phase": name, "answers": (answers | {"report": percentiles(times["go"])}) if name == "free" else answers,
        **({} if name == "free" else held), "calls_per_second": round(calls / passed, 1),
        "coordinator_cpu": round(busy / passed, 3), 
        "cores_used": round(own / passed, 2), "cores_used_by_others": round(others / passed, 2),
        "clients_late": percentiles(times["late"]), "timed_out": len(times["wait"]),
        "most_waiting": sum(one["most_waiting"] for one in acted), "learner": learnt["verdicts"],
    }  # fmt: skip


def measure(folder: Path, workers: int, warm: float, seconds: float, credit: bool) -> dict[str, Any]:
    """Both phases, with a coordinator and clients of their own in a Ray of their own."""
    start_local("fleet-coordinator", 512 << 20)
    try:
        limits = Limits(samples_per_insert=1.0, tolerance=UNBOUNDED, min_size=1)
        state = State(counters={}, replay_size=1, fleet=Fleet(workers, workers), actors=workers)
        coordinator = start(
            "deploy.distributed.coordinator.Coordinator", limits, Incarnations(folder), state, cpus=0, threads=0,
            name=COORDINATOR,
        )  # fmt: skip
        process = psutil.Process(ask(coordinator, "news").processes[COORDINATOR])
        path = "tests.benchmarks.fleet_coordinator"
        learner = start(f"{path}.Learner", cpus=0)
        crowds = [
            start(f"{path}.Crowd", range(i, workers, CLIENTS), cpus=0, threads=0) for i in range(CLIENTS)
        ]  # fmt: skip
        ray.get([crowd.call.remote("enlist") for crowd in crowds], timeout=ENDING)
        arguments = (coordinator, process, crowds, learner, credit, warm, seconds)
        even = workers * ROWS // UPDATES  # steps of an update when nobody is ahead
        free = phase("free", *arguments, even)
        ask(coordinator, "set_ratio", 1.0, float(workers * ROWS + even))
        blocked = phase("blocked", *arguments, even // 2)
    finally:
        ray.shutdown()
    phases = [free, blocked]
    worst = max(times["p99"] for one in phases for times in one["answers"].values())
    return {
        "name": "fleet/coordinator", "value": worst, "unit": "ms, largest p99 of answers that need not wait",
        "goal": GOAL, "workers": workers, "clients": CLIENTS, "credit": credit, "warm": warm, "seconds": seconds,
        "phases": phases,
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores", "load": os.getloadavg(),
        "versions": {"python": platform.python_version(), "ray": ray.__version__},
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet coordinator", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000, help="that the four clients stand for")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the two halves")
    parser.add_argument("--warm", type=float, default=WARM, help="seconds of each half that are not measured")
    parser.add_argument("--every-block", action="store_true", help="workers ask for every block by itself")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    if options.workers < CLIENTS or options.seconds < 2:
        parser.error(f"--workers is {CLIENTS} or more, --seconds 2 or more")
    with TemporaryDirectory(prefix="nexus-fleet-") as folder:
        result = measure(Path(folder), options.workers, options.warm, options.seconds, not options.every_block)
    if not options.json:
        for one in result["phases"]:
            print(f"{one['phase']}: {one['calls_per_second']:g} calls a second, ms")
            for who, times in one["answers"].items():
                print("  ", f"{who:<18}", *(f"{key} {value:>9}" for key, value in times.items()), sep=" ")
    print(json.dumps(result))
    return 0 if result["value"] <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
