"""`python -m tests.benchmarks.forecast`: what `nexus train --dry-run` expects of an update, and what one then takes.

The update is that of `python -m tests.benchmarks.learner`, measured in a process of its own; CPU seconds, one thread.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from deploy.reports.cost.forecast import CPU, forecast
from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from deploy.wiring.task import TaskSpaces
from tests.benchmarks.learner import ACTION, spaces
from tests.benchmarks.machine import describe, versions


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.forecast", description=__doc__)
    parser.add_argument("--preset", default="dmc_proprio", help="preset of `nexus train`; it decides the observations")
    parser.add_argument("--size", default="", help="size1m .. size400m; the preset's own where none is given")
    parser.add_argument("--updates", type=int, default=3, help="updates measured, behind one that warms up")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    config = apply(RunConfig(task="dmc_walker_walk"), options.preset, options.size)
    config = replace(config, learner=replace(config.learner, device="cpu", threads=1))
    found = forecast(config, TaskSpaces(spaces(config), ACTION), CPU)
    measuring = ["--preset", options.preset, "--size", options.size, "--updates", str(options.updates), "--json"]
    command = [sys.executable, "-m", "tests.benchmarks.learner", *measuring]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    report = {
        "name": "/".join(filter(None, ("forecast", options.preset, options.size))),
        "value": found.prediction.seconds / measured["cpu_seconds"],
        "unit": "expected / measured seconds",
        "device": describe(torch.device("cpu")),
        "versions": versions(),
        "seconds": [found.prediction.seconds, measured["cpu_seconds"]],
        "gb": [found.peak / 1e9, measured["peak_gb"]],
        "memory": found.peak / 1e9 / measured["peak_gb"],
        "matmul_gflops": measured["matmul_gflops"],
    }
    if not options.json:
        print(
            f"seconds: expected {report['seconds'][0]:.3f}, measured {report['seconds'][1]:.3f}: {report['value']:.2f}"
        )
        print(f"GB: expected {report['gb'][0]:.3f}, measured {report['gb'][1]:.3f}: {report['memory']:.2f}")
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
