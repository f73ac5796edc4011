"""`python -m tests.benchmarks.fleet chaos`: a run whose environments fail beside one whose environments do not.

Two local runs with tiny networks and eight workers train at the same time on an environment of slow steps. In one of
them 2 % of the episodes, drawn by chance, fail: an exception, NaN, a hang, a leak or a segmentation fault with
`--isolation process`, the first two with `none`. Prints the ratio of their frames a second, and fails if the failures
that the run has counted differ in any kind from those that were injected, or if it stands still.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from actors.faults import KINDS
from tests.benchmarks.fleet_chaos_world import CHAOS, LIMIT, TASK
from tests.integration.runs import command, execute, lines

RAISED = ["exception", "non_finite"]
ALL = [*RAISED, "timeout", "crash", "memory"]
STARTING = 300.0  # seconds for both runs to start
WARM = 1000  # frames before which nothing is measured
QUIET = 25.0  # seconds at the end without failures, for those that have begun to be counted
TIMEOUT = 5.0
STANDSTILL = 30.0  # seconds without a new frame in the log, which is written about once a second


class Run:
    """One `nexus train` in a folder of its own, and how far it is."""

    def __init__(self, folder: Path, kinds: list[str], rate: float, options: argparse.Namespace) -> None:
        folder.mkdir()
        self.folder, self.logdir, self.injected = folder, folder / "run", folder / "injected.jsonl"
        self.calm = folder / "calm"
        self.injected.touch()
        settings = {"injected": str(self.injected), "calm": str(self.calm), "rate": rate, "kinds": kinds}
        os.environ[CHAOS] = json.dumps(settings)
        try:
            self.process = execute(folder, command(
                TASK, self.logdir, "--mode", "local", "--frames", "1000000000", "--log-every", "2",
                "--learner.train-ratio", "0.25", "--checkpoint-every", "1000000", "--actor.actors", "8",
                "--actor.environments", str(options.environments), "--actor.flush-steps", "16",
                "--actor.isolation", options.isolation, "--actor.step-timeout", f"{TIMEOUT:g}",
                "--actor.environment-gb", str(LIMIT if options.isolation == "process" else 0),
            ))  # fmt: skip
        finally:
            del os.environ[CHAOS]
        self.begun: tuple[float, int] = (0.0, 0)
        self.seen: tuple[float, int] = (time.monotonic(), 0)
        self.standstill = 0.0

    def newest(self) -> dict[str, Any]:
        return (lines(self.logdir / "metrics.jsonl") or [{"frames": 0}])[-1]

    def look(self) -> int:
        """Its frames. RuntimeError: it has ended."""
        if (code := self.process.poll()) is not None:
            raise RuntimeError(
                f"the run has ended with code {code}: {(self.folder / 'output.log').read_text()[-2000:]}"
            )
        now, frames = time.monotonic(), int(self.newest()["frames"])
        if frames > self.seen[1]:
            self.seen = (now, frames)
        if self.begun[0]:
            self.standstill = max(self.standstill, now - self.seen[0])
        return frames

    def begin(self) -> None:
        self.begun = self.seen = (time.monotonic(), int(self.newest()["frames"]))

    def rate(self) -> float:
        """Frames a second since `begin`."""
        return (self.seen[1] - self.begun[1]) / (self.seen[0] - self.begun[0])

    def counted(self) -> dict[str, int]:
        newest = self.newest()
        return {kind: int(newest.get(f"failures/{kind}", 0)) for kind in KINDS}

    def happened(self) -> dict[str, int]:
        count = Counter(json.loads(line)["kind"] for line in self.injected.read_text().splitlines())
        return {kind: count[kind] for kind in KINDS}

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    kinds = ALL if options.isolation == "process" else RAISED
    runs = {name: Run(folder / name, kinds, rate, options) for name, rate in (("calm", 0.0), ("chaos", options.rate))}
    calm, chaos = runs["calm"], runs["chaos"]
    try:
        deadline = time.monotonic() + STARTING
        while min(run.look() for run in runs.values()) < WARM:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the runs have not made {WARM} frames within {STARTING:g} s")
            time.sleep(1)
        for run in runs.values():
            run.begin()
        end = time.monotonic() + options.seconds
        while (now := time.monotonic()) < end:
            frames = {name: run.look() for name, run in runs.items()}
            print(f"{end - now:6.0f} s left  {frames}  counted {chaos.counted()}", file=sys.stderr, flush=True)
            time.sleep(min(10.0, max(0.1, end - now)) if options.seconds > 60 else 1.0)
        rates = {name: run.rate() for name, run in runs.items()}
        chaos.calm.touch()
        end = time.monotonic() + QUIET
        while time.monotonic() < end:
            chaos.look()
            time.sleep(1)
        counted, happened = chaos.counted(), chaos.happened()
        resting = [run.standstill for run in runs.values()]
        restarts = {name: value for name, value in chaos.newest().items() if name.startswith("restarts/")}
        false = {kind: count for kind, count in calm.counted().items() if count}
    finally:
        for run in runs.values():
            run.end()
        for run in runs.values():
            run.wait()
    return {
        "name": f"fleet/chaos/{options.isolation}", "value": round(rates["chaos"] / rates["calm"], 4),
        "unit": "of the frames a second of a run without failures", "seconds": options.seconds,
        "environments": options.environments,
        "frames_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "injected": happened, "counted": counted, "equal": happened == counted, "counted_in_calm_run": false,
        "longest_standstill_seconds": [round(seconds, 1) for seconds in resting], "restarts": restarts,
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores", "load": os.getloadavg(),
        "memory_free_gb": round(psutil.virtual_memory().available / 1e9, 1),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of the measurement, without start and end")
    parser.add_argument("--isolation", choices=("process", "none"), default="process")
    parser.add_argument("--environments", type=int, default=8, help="of all eight workers together")
    parser.add_argument("--rate", type=float, default=0.02, help="failures per episode")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone, all else to stderr")
    options = parser.parse_args(arguments)
    if options.environments < 8:
        parser.error("--environments is 8 or more: one for each worker")
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.default_int_handler)  # nothing is left behind
    with TemporaryDirectory(prefix="nexus-chaos-", ignore_cleanup_errors=True) as folder:
        result = measure(Path(folder), options)
    print(json.dumps(result))
    return 0 if result["equal"] and max(result["longest_standstill_seconds"]) < STANDSTILL else 1


if __name__ == "__main__":
    sys.exit(main())
