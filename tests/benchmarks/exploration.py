"""`python -m tests.benchmarks.exploration --json`: what disagreement finds that the task's reward alone does not.

MountainCar-v0 pays -1 a step until the car is on the hill, which random actions practically never reach. Runs of
`nexus train` (quick preset, inline, one thread) with and without `--exploration.disagreement`, with the same seeds and
frames: frames until the first episode that reaches the hill, and the states visited, as cells of 20 positions x 20
velocities, counted in the stored replay. `--cartpole` also trains CartPole in both ways, to see what it costs where
nothing needs to be explored: frames until an evaluation of 20 episodes reaches 490.

The same command goes on: runs in `--runs` that have enough frames are read, others are continued. Ctrl-C saves the one
that trains. `--read` trains nothing. Intervals are Student's over seeds, of single runs as well as of the differences.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from actors.evaluation import confidence_interval
from deploy.reports.metrics import SCORES, read_lines
from deploy.stored.sources import open_all
from tests.benchmarks.machine import describe, versions

CAR, POLE = "gym:MountainCar-v0", "gym:CartPole-v1"
TIME_LIMIT = 200
"""Steps of an episode of MountainCar that does not reach the hill."""
SOLVED = 490.0
LOW, HIGH, CELLS = np.array([-1.2, -0.07]), np.array([0.6, 0.07]), 20
"""Bounds of position and velocity, and cells along each."""


def cells(states: np.ndarray) -> np.ndarray:
    """The cell of each state `[N 2]`: an index below 400."""
    place = ((states - LOW) / (HIGH - LOW) * CELLS).astype(np.int64).clip(0, CELLS - 1)
    return place[:, 0] * CELLS + place[:, 1]


def stored(run: Path) -> list[np.ndarray]:
    """What followed each action of each environment, in order, `[T 2]`; none if the run has no checkpoint yet."""
    try:
        with ExitStack() as stack:
            rows = [
                reader.read(stream, steps.start, len(steps))
                for reader in open_all([str(run)], "", stack)
                for stream, steps in sorted(reader.streams().items())
            ]
    except ValueError:
        return []
    return [one["vector"][~one["is_first"]] for one in rows]


def visited(streams: Sequence[np.ndarray], frames: int) -> int:
    """Cells in which the environments were within the first `frames` steps of them all."""
    return len(np.unique(np.concatenate([cells(one[: -(-frames // len(streams))]) for one in streams])))


def episodes(run: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The run's training episodes or those of its evaluations, oldest first."""
    lines = read_lines(run / SCORES, frames=int, score=float) if (run / SCORES).exists() else ()
    return (line for line in lines if line["kind"] == kind)


def first_success(run: Path) -> int | None:
    """Frames at the end of the first training episode that reached the hill."""
    return next((line["frames"] for line in episodes(run, "train") if line["score"] > -TIME_LIMIT), None)


def first_solved(run: Path) -> int | None:
    """Frames at the first evaluation with a mean of `SOLVED`."""
    evaluations: dict[int, list[float]] = {}
    for line in episodes(run, "eval"):
        evaluations.setdefault(line["frames"], []).append(line["score"])
    return next((frames for frames, scores in evaluations.items() if fmean(scores) >= SOLVED), None)


def train(task: str, run: Path, weight: float, seed: int, given: argparse.Namespace) -> None:
    """Begin or continue a run. CalledProcessError: it failed, and said why on standard error."""
    arguments = [
        "nice", "-n", "10", sys.executable, "-m", "deploy.cli", "train", task, "--preset", "quick", "--mode", "inline",
        "--seed", seed, "--frames", given.frames, "--exploration.disagreement", weight, "--learner.threads", 1,
        "--report-every", 0, "--logdir", run, *([] if task == POLE else ["--evaluation.every", 0]), *given.options,
    ]  # fmt: skip
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run(list(map(str, arguments)), check=True, env=environment, stdout=subprocess.DEVNULL)


def car_row(run: Path, weight: float, seed: int, given: argparse.Namespace) -> dict[str, Any] | None:
    """The figures of a run on MountainCar; None if it has too few frames and none may be trained."""
    streams = stored(run)
    if sum(map(len, streams)) < given.frames:
        if given.read:
            return None
        train(CAR, run, weight, seed, given)
        streams = stored(run)
    success = first_success(run)
    return {
        "task": CAR, "disagreement": weight, "seed": seed, "frames": given.frames, "run": str(run),
        "first_success": success if success is not None and success <= given.frames else None,
        "states": visited(streams, given.frames), "states_halfway": visited(streams, given.frames // 2),
    }  # fmt: skip


def pole_row(run: Path, weight: float, seed: int, given: argparse.Namespace) -> dict[str, Any] | None:
    """The figures of a run on CartPole; None if it is not there and none may be trained."""
    if not given.read:
        train(POLE, run, weight, seed, given)  # one that is solved says so and ends
    if not (run / SCORES).exists():
        return None
    return {"task": POLE, "disagreement": weight, "seed": seed, "frames": given.frames, "run": str(run),
            "solved": first_solved(run)}  # fmt: skip


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and 95 % interval; no interval of a single value."""
    low, high = confidence_interval(values)
    return {"mean": fmean(values), "interval95": None if len(values) < 2 else [low, high], "n": len(values)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds of MountainCar's states, each way and as differences of the same seed; how many succeeded."""
    found: dict[str, Any] = {}
    each: dict[str, dict[int, int]] = {}
    for name, on in (("without", False), ("with", True)):
        some = [row for row in rows if row["task"] == CAR and (row["disagreement"] > 0) == on]
        if some:
            each[name] = {row["seed"]: row["states"] for row in some}
            reached = [row["first_success"] for row in some if row["first_success"] is not None]
            found[name] = {"states": interval(list(each[name].values())), "succeeded": len(reached), "runs": len(some),
                           "first_success": interval(reached) if len(reached) == len(some) else None}  # fmt: skip
    if both := each.get("with", {}).keys() & each.get("without", {}).keys():
        found["difference"] = interval([each["with"][seed] - each["without"][seed] for seed in sorted(both)])
    return found


def line(row: dict[str, Any]) -> str:
    name = f"{row['task']}  disagreement {row['disagreement']:g}  seed {row['seed']}"
    if row["task"] == POLE:
        return f"{name}  solved at {row['solved'] or 'no'} frames"
    reached = "not reached" if row["first_success"] is None else f"at {row['first_success']:,} frames"
    return (
        f"{name}  hill {reached}, {row['states']} states ({row['states_halfway']} by half of {row['frames']:,} frames)"
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.exploration",
        description=__doc__,
        epilog="What else is given are options of nexus train, for all runs.",
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/exploration"), help="where the runs are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frames", type=int, default=40_000)
    parser.add_argument("--disagreement", type=float, default=3.0, help="weight of the runs with it")
    parser.add_argument("--cartpole", action="store_true", help="also train CartPole, with and without")
    parser.add_argument("--read", action="store_true", help="only read runs that are there")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    given, options = parser.parse_known_args(arguments)
    given.options = options
    rows = []
    for seed in given.seeds:
        for task, measure in (("mountaincar", car_row), ("cartpole", pole_row))[: 1 + given.cartpole]:
            for weight in (0.0, given.disagreement):
                run = given.runs / f"{task}-disagreement{weight:g}-seed{seed}"
                if row := measure(run, weight, seed, given):
                    rows.append(row)
                    if not given.json:
                        print(line(row), flush=True)
    found = summary(rows)
    out = {
        "name": "exploration", "value": found.get("difference", {}).get("mean"),
        "unit": f"more of {CELLS * CELLS} states visited with disagreement than without", "summary": found,
        "rows": rows, "device": describe(torch.device("cpu")), "versions": versions(),
    }  # fmt: skip
    print(json.dumps(out))
    return out


if __name__ == "__main__":
    main()
