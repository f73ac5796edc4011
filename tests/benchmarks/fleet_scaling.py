"""`python -m tests.benchmarks.fleet scaling`: a live run whose number of actors changes, audited to the last step.

A local run on CartPole with tiny networks and a replay on disk is scaled 1, 2, 4, 8, 2 by `nexus scale`, then ended by
`nexus stop`. Its train ratio is low, so that the learner needs what actors bring and waits as soon as they pause. A
witness in its processes writes down every report of an actor and every wait of the learner for data.
Fails if a reported step is not in replay exactly once, curves go backwards, a seed repeats, an actor has died, or the
learner has waited too long for data because of a change.

While further workers start they take the cores from everybody: waits during that time are told apart, as `starting`,
with the seconds that the learner's thread had no core. The figure is the longest wait at any other time.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.fleet_run import LiveRun, cores_used, machine
from tests.benchmarks.fleet_scaling_audit import compare, read, scores_between
from tests.benchmarks.fleet_scaling_witness import Wait, hook, lives, waits
from tests.benchmarks.run_soak_audit import SoakError, lines, require_forward

TASK = "gym:CartPole-v1"
ACTORS = [1, 2, 4, 8, 2]
GOAL = 2.0  # seconds
ENVIRONMENTS = 4  # of each worker
UPDATES = 20  # before the first measurement
RATIO = 1.0
OPTIONS = [
    "--replay", "disk", "--replay.capacity", "1000000", "--actor.actors", "1",
    "--actor.environments", str(ENVIRONMENTS), "--report-every", "0", "--log-every", "20",
]  # fmt: skip


def waited(some: Sequence[Wait], begin: float, end: float) -> dict[str, float]:
    """What the learner waited for data from `begin` to `end` on the wall clock, seconds."""
    these = [one for one in some if begin <= one.at and one.at - one.seconds < end]
    longest = max(these, key=lambda one: one.seconds, default=Wait(0.0, 0.0, 0.0, 0.0))
    return {
        "seconds": round(end - begin, 1), "longest": round(longest.seconds, 3),
        "by_limiter": round(longest.limiter, 3), "by_prefetch": round(longest.prefetch, 3),
        "all": round(sum(one.seconds for one in these), 2), "updates": len(these),
        "without_a_core": round(these[-1].starved - these[0].starved, 2) if these else 0.0,
    }  # fmt: skip


def change(run: LiveRun, actors: int, seconds: float) -> dict[str, Any]:
    """Scale to `actors`, let the run work for `seconds`, and tell what it did from one to the other."""
    before, cores, asked = run.fresh(), run.cores(), time.time()
    was = before["actors"]["target"]
    run.scale(actors)
    settled = time.time()
    time.sleep(seconds)
    after, ended = run.fresh(), time.time()
    passed = after["time"] - before["time"]
    return {
        "actors": [was, actors], "environments": after["actors"]["environments"], "times": [asked, settled, ended],
        "frames": [before["frames"], after["frames"]],
        "frames_per_second": round((after["frames"] - before["frames"]) / passed, 1),
        "updates_per_second": round((after["updates"] - before["updates"]) / passed, 1),
        "cores_used": cores_used(cores, run.cores(), ended - asked),
    }  # fmt: skip


def scaling(folder: Path, counts: Sequence[int], seconds: float, ratio: float) -> dict[str, Any]:
    """One run through all counts, and what it has left."""
    accounts = folder / "accounts"
    given = [*OPTIONS, "--learner.train-ratio", f"{ratio:g}"]
    with LiveRun(folder / "live", TASK, *given, variables=hook(accounts)) as run:
        run.wait(lambda status: status.get("updates", 0) >= UPDATES, f"{UPDATES} updates")
        changes = [change(run, actors, seconds) for actors in counts]
        last = run.fresh()
        run.stop()
        problems = [f"{name} was restarted {count} times" for name, count in last["restarts"].items() if count]
        told, some, stored = lives(accounts), waits(accounts), read(run.logdir)
        scores = lines(run.logdir / "scores.jsonl")
        try:
            require_forward(run.logdir)
        except SoakError as error:
            problems.append(str(error))
    problems += stored.gaps + compare(told, stored.streams)
    if stored.twice:
        problems.append(f"{stored.twice} observations are stored twice")
    longest = 0.0
    for one in changes:
        asked, settled, ended = one.pop("times")
        first, until = one["frames"]
        one["while_scaling"], one["afterwards"] = waited(some, asked, settled), waited(some, settled, ended)
        starting = one["actors"][1] > one["actors"][0]
        longest = max(longest, one["afterwards"]["longest"], 0.0 if starting else one["while_scaling"]["longest"])
        found = scores_between(scores, first, until)
        one["episodes"], one["mean_score"] = len(found), round(sum(found) / max(1, len(found)), 1)
        if not found:
            problems.append(f"no episode ended with {one['actors'][1]} actors")
    reported, there = sum(life.rows for life in told), sum(map(len, stored.streams.values()))
    if last["steps"] > reported:
        problems.append(f"the coordinator has counted {last['steps']} steps, actors have reported {reported}")
    return {
        "name": "fleet/scaling", "value": round(longest, 3), "goal": GOAL,
        "unit": "seconds, longest wait of the learner for data while no worker was starting",
        "starting": round(max(one["while_scaling"]["longest"] for one in changes), 3), "steps_reported": reported,
        "steps_stored": there, "train_ratio": ratio,
        "lives": len(told), "streams": len(stored.streams), "stored_twice": stored.twice,
        "changes": changes, "problems": problems, **machine(),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet scaling", description=__doc__)
    parser.add_argument("--actors", default=",".join(map(str, ACTORS)), help="counts, one after the other")
    parser.add_argument("--seconds", type=float, default=30.0, help="with each count, once it is reached")
    parser.add_argument("--train-ratio", type=float, default=RATIO, help="of the run; a high one makes actors wait")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone, all else to stderr")
    options = parser.parse_args(arguments)
    try:
        counts = [int(word) for word in options.actors.split(",")]
    except ValueError:
        parser.error(f"--actors {options.actors}: numbers separated by commas, e.g. 1,4,2")
    if min(counts) < 1 or options.seconds < 2 or options.train_ratio <= 0:
        parser.error("--actors are 1 or more each, --seconds is 2 or more, and --train-ratio above 0")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    with TemporaryDirectory(prefix="nexus-scaling-", ignore_cleanup_errors=True) as folder:
        result = scaling(Path(folder), counts, options.seconds, options.train_ratio)
    if not options.json:
        for one in result["changes"]:
            print(f"{one['actors']}: waits {one['while_scaling']['longest']} s, then {one['afterwards']['longest']} s")
    for problem in result["problems"]:
        print(problem, file=sys.stderr)
    print(json.dumps(result))
    return 1 if result["problems"] or result["value"] > GOAL else 0


if __name__ == "__main__":
    sys.exit(main())
