"""Part `cluster`: CartPole solved by a run of cluster mode on two nodes of this machine, one of which is killed.

`python -m tests.benchmarks.fleet cluster [--replay ray|redis] [--kill SECONDS] [--task TASK] [--folder DIR] --json`

The actors run on the second node, the learner on the first. `--kill`: SIGKILL to the second raylet that long after the
first update. The last line of output is one JSON object; the exit code is 0 if the task was solved.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import versions
from tests.integration.ray_nodes import RayNodes, environment_of
from tests.integration.runs import NEXUS, environment, lines
from tests.replay.redis.redis_servers import RedisServer

PASSWORD = "fleet"
SOLVED = 475.0  # Gymnasium's threshold


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet cluster", description=__doc__)
    parser.add_argument("--replay", choices=("ray", "redis"), default="ray")
    parser.add_argument("--kill", type=float, default=0.0, help="seconds after the first update; 0: never")
    parser.add_argument("--task", default="gym:CartPole-v1")
    parser.add_argument("--folder", type=Path, default=None, help="keep the run here")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="the result as one line of JSON, without the log before it")
    asked = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-fleet-")))
        folder.mkdir(parents=True, exist_ok=True)
        result = _measure(stack, folder.resolve(), asked)
    print(json.dumps(result))
    return 0 if result["solved"] else 1


def _measure(stack: ExitStack, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    nodes = stack.enter_context(RayNodes())
    nodes.join()
    store = "ray"
    if asked.replay == "redis":
        servers = [stack.enter_context(RedisServer(tcp=True, password=PASSWORD)) for _ in range(2)]
        store = ",".join(server.url_tcp for server in servers)
    logdir, output = folder / "run", folder / "output.log"
    command = [
        *NEXUS, "train", asked.task, "--preset", "quick", "--mode", "cluster", "--cluster.address", nodes.address,
        "--cluster.actor-nodes", "role=actors", "--cluster.learner-nodes", "role=learner", "--replay", store,
        "--logdir", str(logdir),
    ]  # fmt: skip
    with environment_of(nodes), output.open("w") as file:
        begun = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=file, stderr=subprocess.STDOUT)
    stack.callback(process.kill)
    learning = killed = None
    while process.poll() is None and time.monotonic() - begun < asked.limit:
        time.sleep(1.0)
        now = time.monotonic() - begun
        if learning is None and lines(logdir / "metrics.jsonl"):
            learning = now
        if asked.kill and learning and killed is None and now - learning > asked.kill:
            killed = now
            nodes.kill("second")
    code = process.poll()
    said = output.read_text()
    if not asked.json:
        print(said, file=sys.stderr)
    scores = [line for line in lines(logdir / "scores.jsonl") if line["kind"] == "eval"]
    evaluated = [line["score"] for line in scores[-20:]]  # one evaluation
    return {
        "name": "fleet/cluster", "value": round(time.monotonic() - begun, 1), "unit": "seconds to the end of the run",
        "replay": asked.replay, "solved": code == 0 and _mean(evaluated) >= SOLVED,
        "exit_code": code, "last_evaluation": _mean(evaluated), "killed_after": killed and round(killed, 1),
        "frames": max((line["frames"] for line in lines(logdir / "metrics.jsonl")), default=0),
        "said": re.findall(r"^.*(?:died|is back|waits for|no node with|ended).*$", said, re.MULTILINE)[:20],
        "cores": os.cpu_count(), "versions": versions(),
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(1, len(values)), 1)


if __name__ == "__main__":
    sys.exit(main())
