"""`python -m tests.benchmarks.transfer --json`: what a model of one task is worth on another one.

For each seed, `nexus train` (quick preset, inline, one thread) learns CartPole, and then CartPole with a pole three
times as long and heavy in three ways: from scratch, from the world model of the first run, and from all of its agent
(`--init-from`, `--init-parts`). Measured are frames until an evaluation of 10 episodes reaches a mean of 475, the first
evaluation, and the mean of all. Nothing else differs, 500 random steps at the start included. `--pendulum`: a pendulum
of 1.5 times the mass, and a mean of -300.

The same command goes on: runs in `--runs` that are over are read, others are begun or continued, one at a time. Ctrl-C
saves the one that trains. `--read` trains nothing. `--one-source` trains the other task for the first seed alone. A run
that does not reach the score counts with all its frames, and is named; intervals are Student's over seeds.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

from actors.evaluation import confidence_interval
from deploy.reports.metrics import SCORES, read_lines
from deploy.wiring.config import load_config
from tests.benchmarks.machine import describe, versions


class Pair(NamedTuple):
    """A task, the one that its model is used for, and the score that counts as learned."""

    name: str
    source: str
    target: str
    score: float


POLE = Pair("pole", "gym:CartPole-v1", "gym:actors.envs.other_physics:LongPole-v0", 475.0)
PENDULUM = Pair("pendulum", "gym:Pendulum-v1", "gym:actors.envs.other_physics:HeavyPendulum-v0", -300.0)
WAYS: dict[str, tuple[str, ...]] = {"scratch": (), "world_model": ("world_model",), "all": ("all",)}
"""What is taken from the source's run."""


def evaluations(run: Path, most: float = math.inf) -> list[tuple[int, float]]:
    """Frames and mean score of each evaluation within `most` frames, oldest first; none if the run has none."""
    found: dict[int, list[float]] = {}
    if (run / SCORES).exists():
        for line in read_lines(run / SCORES, frames=int, score=float):
            if line["kind"] == "eval" and line["frames"] <= most:
                found.setdefault(line["frames"], []).append(line["score"])
    return [(frames, fmean(scores)) for frames, scores in sorted(found.items())]


def reached(found: Sequence[tuple[int, float]], score: float) -> int | None:
    """Frames at the first evaluation with this mean."""
    return next((frames for frames, mean in found if mean >= score), None)


def train(task: str, run: Path, score: float, seed: int, given: argparse.Namespace, *more: object) -> None:
    """Begin or continue a run. CalledProcessError: it failed, and said why on standard error."""
    arguments = [
        "nice", "-n", "10", sys.executable, "-m", "deploy.cli", "train", task, "--preset", "quick", "--mode", "inline",
        "--seed", seed, "--frames", given.frames, "--evaluation.every", 100, "--evaluation.episodes", 10,
        "--evaluation.stop-score", score, "--learner.threads", 1, "--report-every", 0, "--logdir", run,
        *more, *given.options,
    ]  # fmt: skip
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run(list(map(str, arguments)), check=True, env=environment, stdout=subprocess.DEVNULL)


def over(run: Path, score: float, frames: int) -> bool:
    """Whether the run has ended, with the score or after as many frames: its last episodes have been played then."""
    if not (run / "evaluation.json").exists():
        return False
    return reached(evaluations(run), score) is not None or load_config(run).frames >= frames


def row(pair: Pair, way: str, run: Path, source: Path, seed: int, given: argparse.Namespace) -> dict[str, Any] | None:
    """The figures of a run; None if it is not over and none may be trained."""
    task = pair.source if way == "source" else pair.target
    if not over(run, pair.score, given.frames):
        if given.read:
            return None
        parts = WAYS.get(way, ())
        train(task, run, pair.score, seed, given, *(["--init-from", source, "--init-parts", *parts] if parts else []))
    found = evaluations(run, given.frames)
    return {
        "task": task, "way": way, "seed": seed, "run": str(run), "frames": given.frames, "score": pair.score,
        "reached": reached(found, pair.score), "first": found[0] if found else None,
        "mean": fmean(mean for _, mean in found) if found else None, "evaluations": found,
    }  # fmt: skip


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and 95 % interval; no interval of a single value."""
    low, high = confidence_interval(values)
    return {"mean": fmean(values), "interval95": None if len(values) < 2 else [low, high], "values": list(values)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Frames to the score in each way, how many runs reached it, and what was saved against scratch, by seed."""
    found: dict[str, Any] = {}
    frames: dict[str, dict[int, int]] = {}
    for way in ("source", *WAYS):
        if some := [one for one in rows if one["way"] == way]:
            frames[way] = {one["seed"]: one["reached"] or one["frames"] for one in some}
            found[way] = {"reached": sum(one["reached"] is not None for one in some), "runs": len(some),
                          "frames": interval(list(frames[way].values())),
                          "first_evaluation": [one["first"][1] for one in some if one["first"]],
                          "mean_evaluation": [one["mean"] for one in some if one["first"]]}  # fmt: skip
    for way in list(WAYS)[1:]:
        if both := sorted(frames.get("scratch", {}).keys() & frames.get(way, {}).keys()):
            found[way]["saved"] = interval([frames["scratch"][seed] - frames[way][seed] for seed in both])
    return found


def line(one: dict[str, Any]) -> str:
    """A row in words."""
    at = f"at {one['reached']:,} frames" if one["reached"] else f"not within {one['frames']:,} frames"
    first = "; evaluations " + ", ".join(f"{mean:.0f} at {frames:,}" for frames, mean in one["evaluations"])
    return f"{one['task']}  {one['way']:<11}  seed {one['seed']}  {one['score']:g} {at}{first}"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.transfer",
        description=__doc__,
        epilog="What else is given are options of nexus train, for all runs.",
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"), help="where the runs are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frames", type=int, default=12_000, help="the most of each run")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    parser.add_argument("--one-source", action="store_true", help="all start from the first seed's run")
    parser.add_argument("--pendulum", action="store_true", help="Pendulum in place of CartPole")
    parser.add_argument("--read", action="store_true", help="only read runs that are there")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    given, options = parser.parse_known_args(arguments)
    given.options = options
    pair = PENDULUM if given.pendulum else POLE
    rows = []
    for seed in given.seeds:
        first = given.seeds[0] if given.one_source else seed
        source = given.runs / f"{pair.name}-source-seed{first}"
        for way in ("source", *given.ways) if seed == first else given.ways:
            if one := row(pair, way, given.runs / f"{pair.name}-{way}-seed{seed}", source, seed, given):
                rows.append(one)
                if not given.json:
                    print(line(one), flush=True)
    found = summary(rows)
    out = {
        "name": "transfer", "value": found.get("world_model", {}).get("saved", {}).get("mean"),
        "unit": f"frames saved to a mean score of {pair.score:g} by the other task's world model", "summary": found,
        "rows": rows, "device": describe(torch.device("cpu")), "versions": versions(),
    }  # fmt: skip
    print(json.dumps(out))
    return out


if __name__ == "__main__":
    main()
