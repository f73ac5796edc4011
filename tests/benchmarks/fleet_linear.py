"""`python -m tests.benchmarks.fleet linear`: frames per second of a live run as `nexus scale` adds workers.

A local run with tiny networks on an environment whose every step sleeps for 20 ms; each worker has one of them. Actions
are random and the learner is paused (train ratio 0), so that what is measured is acting, reporting and storing. With
each number of workers, once all of them act, frames are counted for some seconds by `status.json`.

Prints the rate of each count as a part of the first one's times the number of workers, and the cores that each role
used meanwhile; fails if the part of the largest count is below the goal.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.fleet_linear_world import STEP, TASK
from tests.benchmarks.fleet_run import LiveRun, cores_used, machine

WORKERS = [1, 2, 4, 8, 16, 32]
GOAL = 0.9
QUIET = 5.0  # seconds after the last worker has begun
BLOCK = 50  # steps: a second's
OPTIONS = [
    "--learner.train-ratio", "0", "--actor.actors", "1", "--actor.environments", "1", "--actor.isolation", "none",
    "--model.encoder.layers", "1", "--model.policy.layers", "1",
    "--actor.random-steps", "1000000000", "--actor.flush-steps", str(BLOCK), "--actor.flush-seconds", "1",
]  # fmt: skip


def measure(run: LiveRun, workers: int, seconds: float) -> dict[str, Any]:
    """Frames a second of `workers` workers, all of which act, and what they cost."""
    before, cores = run.fresh(), run.cores()
    begun = time.monotonic()
    time.sleep(seconds)
    after, later = run.fresh(), run.cores()
    each = after["actors"]["each"]
    assert len(each) == workers and set(each) == set(before["actors"]["each"]), f"workers came or went: {each}"
    used = cores_used(cores, later, time.monotonic() - begun)
    cpus = os.cpu_count() or 1
    rate = (after["frames"] - before["frames"]) / (after["time"] - before["time"])
    total = sum(value for role, value in used.items() if role != "others")
    return {
        "workers": workers, "frames_per_second": round(rate, 2), "of_environment": round(rate * STEP / workers, 4),
        "cpu_ms_per_step": round(total / rate * 1e3, 3),
        "cpu_ms_per_step_in_actors": round(used.get("actors", 0.0) / rate * 1e3, 3),
        "cpu_ms_per_step_that_cores_allow": round(cpus * STEP / workers * 1e3, 3), "cores_used": used,
    }  # fmt: skip


def linear(folder: Path, counts: Sequence[int], seconds: float) -> dict[str, Any]:
    """All counts, one after the other, in one run."""
    rows = []
    root = str(Path(__file__).parents[2])  # where the environment's module is found
    with LiveRun(folder, TASK, *OPTIONS, variables={"PYTHONPATH": root}) as run:
        run.wait(lambda status: status.get("steps", 0) > BLOCK, "the first steps of the run")
        for workers in counts:
            begun = time.monotonic()
            run.scale(workers)
            starting = time.monotonic() - begun
            time.sleep(QUIET)
            rows.append(measure(run, workers, seconds) | {"seconds_to_scale": round(starting, 1)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        restarts = {name: count for name, count in run.status()["restarts"].items() if count}
        run.stop()
    base = rows[0]["frames_per_second"] / rows[0]["workers"]
    for row in rows:
        row["of_linear"] = round(row["frames_per_second"] / (base * row["workers"]), 4)
    return {
        "name": "fleet/linear", "value": rows[-1]["of_linear"], "goal": GOAL,
        "unit": f"of {rows[-1]['workers']} times the frames a second of one worker", "step_seconds": STEP,
        "seconds": seconds, "counts": rows, "restarts": restarts, **machine(),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet linear", description=__doc__)
    parser.add_argument("--workers", default=",".join(map(str, WORKERS)), help="counts in rising order, from 1")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone, all else to stderr")
    options = parser.parse_args(arguments)
    try:
        counts = [int(word) for word in options.workers.split(",")]
    except ValueError:
        parser.error(f"--workers {options.workers}: numbers separated by commas, e.g. 1,2,4")
    if counts[0] != 1 or counts != sorted(set(counts)) or options.seconds < 2:
        parser.error("--workers rises from 1, and --seconds is 2 or more")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    with TemporaryDirectory(prefix="nexus-linear-", ignore_cleanup_errors=True) as folder:
        result = linear(Path(folder), counts, options.seconds)
    if not options.json:
        print(f"{'workers':>8}{'frames/s':>10}{'of linear':>11}{'CPU ms a step':>15}")
        for row in result["counts"]:
            print(
                f"{row['workers']:>8}{row['frames_per_second']:>10}{row['of_linear']:>11}{row['cpu_ms_per_step']:>15}"
            )
    print(json.dumps(result))
    return 0 if result["value"] >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
