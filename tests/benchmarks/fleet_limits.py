"""`python -m tests.benchmarks.fleet limits`: what a run's coordinator and supervisor spend on 10 to 10,000 workers.

The real classes in this process, without the workers' processes: a coordinator takes the reports of all workers and
tells the news; a supervisor looks after as many unfinished tasks of Ray and writes its status. CPU seconds, medians.
What Ray itself spends on a call between processes is not in them; `fleet coordinator` measures that.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import cloudpickle

from deploy.distributed.coordinator import Coordinator
from deploy.distributed.messages import ActorReport, Limits, News, State, actor_name
from deploy.distributed.ray_cluster import start_local
from deploy.distributed.supervisor.fleet_children import FleetChildren
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations
from tests.benchmarks.fleet_run import machine

WORKERS = (10, 100, 1_000, 10_000)
ROWS = 16  # of a report
REPEATS = 5


@ray.remote(num_cpus=0)
def unfinished() -> None:
    """Runs until Ray ends."""
    time.sleep(1e6)


def cpu(call: Callable[[], object]) -> float:
    """CPU seconds of a call, the median of some."""
    taken = []
    for _ in range(REPEATS):
        begun = time.process_time()
        call()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def coordinate(folder: Path, workers: int) -> tuple[dict[str, Any], News]:
    """What a coordinator of so many workers spends."""
    limits = Limits(samples_per_insert=1.0, tolerance=1e12, min_size=1)
    state = State(counters={}, replay_size=1, fleet=Fleet(workers, workers), actors=workers)
    coordinator = Coordinator(limits, Incarnations(folder), state)
    reports = [
        ActorReport(worker=one, process=one + 1, node="0" * 56, rows=ROWS, frames=ROWS, version=0)
        for one in range(workers)
    ]  # fmt: skip

    async def report() -> None:
        for one in reports:
            await coordinator.report(one, ROWS, 0.0)

    for one in range(workers):
        coordinator.enlist(one)
    reporting = cpu(lambda: asyncio.run(report())) / workers
    news = coordinator.news()
    telling = cpu(lambda: cloudpickle.dumps(coordinator.news()))
    found = {
        "report_us": round(1e6 * reporting, 1), "news_ms": round(1e3 * telling, 2),
        "news_kb": round(len(cloudpickle.dumps(news)) / 1e3, 1), "seconds_between_reports": coordinator.roster.every,
    }  # fmt: skip
    return found, news


def supervise(folder: Path, workers: int, news: News) -> dict[str, Any]:
    """What a supervisor of so many workers spends at each look, and on each status."""
    task = unfinished.remote()

    def begin(number: int) -> WorkerChild:
        one = WorkerChild(actor_name(number), lambda: None, folder, print, lambda name, reason: None)  # type: ignore[arg-type, return-value]
        one.launch = lambda: setattr(one, "task", task)  # type: ignore[method-assign]
        one.restarts.begin()
        return one

    fleet = FleetChildren(Fleet(workers, workers), begin, print, ROWS, lambda name: None)
    fleet.scale(workers)
    status = json.dumps(fleet.status(news))
    found = {
        "look_ms": round(1e3 * cpu(lambda: fleet.check(news)), 2),
        "status_ms": round(1e3 * cpu(lambda: json.dumps(fleet.status(news))), 2),
        "status_kb": round(len(status) / 1e3, 1),
    }
    ray.cancel(task, force=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet limits", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    if min(options.workers) < 1:
        parser.error("--workers is 1 or more")
    found = {}
    with TemporaryDirectory(prefix="nexus-limits-") as name:
        start_local("fleet-limits", 100 << 20)
        try:
            for workers in options.workers:
                (folder := Path(name) / str(workers)).mkdir()
                part, news = coordinate(folder, workers)
                found[workers] = part | supervise(folder, workers, news)
                if not options.json:
                    print(workers, *(f"{key} {value}" for key, value in found[workers].items()))
        finally:
            ray.shutdown()
    largest = found[max(found)]
    print(json.dumps({"name": "fleet/limits", "value": largest["look_ms"] + largest["news_ms"],
                      "unit": f"CPU ms of a look at {max(found)} workers", "workers": found, **machine()}))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
