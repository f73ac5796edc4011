"""`python -m tests.benchmarks.health --json`: six runs made bad on purpose, three healthy ones, and what is flagged.

Each bad run must be flagged for its own reason, and what it is flagged for besides is listed; the healthy ones for
none. Every run is `nexus train --preset quick --mode inline` with one thread, 1,000 updates (600 from pixels, of which
two reports are judged) and a health report every 200; all have the default thresholds. The runs take about two and a
half CPU minutes each; `--folder` keeps them, and a second call judges those that are there anew.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deploy.inline_run import InlineRun
from deploy.reports.health.files import read_reports
from deploy.reports.health.verdicts import Verdict, unhealthy, verdicts
from deploy.reports.metrics import SCORES, read_lines
from deploy.wiring.config import HealthConfig, RunConfig
from deploy.wiring.presets import apply
from learner.sequence import start_items
from replay.config import SelectionConfig
from tests.benchmarks.health_world import MemorylessRun, paying_for_speed
from tests.benchmarks.machine import describe, versions

UPDATES, EVERY = 1000, 200
HIDDEN, CHANGING = (f"gym:tests.benchmarks.health_world:{name}CartPole-v0" for name in ("Hidden", "Changing"))

Change = Callable[[RunConfig], RunConfig]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run and the part of the report that must be flagged; empty for a healthy one."""

    task: str
    part: str = ""
    why: str
    change: Change = lambda config: config
    build: type[InlineRun] = InlineRun
    bonus: float = 0.0
    updates: int = UPDATES


def _short(config: RunConfig) -> RunConfig:
    """As many training steps an update, in sequences of two."""
    learner = config.learner
    size = learner.batch_size * learner.batch_length // 2
    return replace(config, learner=replace(learner, batch_size=size, batch_length=2, start_items=2 * size))


def _recency(exponent: float) -> Change:
    selection = SelectionConfig(recency=1.0, recency_exponent=exponent)
    return lambda config: replace(config, replay=replace(config.replay, selection=selection))


def _pixels(config: RunConfig) -> RunConfig:
    return replace(config, environment=replace(config.environment, observations="pixels", image_size=(48, 48)))


def _repeat_two(config: RunConfig) -> RunConfig:
    return replace(config, environment=replace(config.environment, action_repeat=2))


CASES = {
    "short_batches": Case(task=HIDDEN, part="horizon", why="batch_length 2 where velocities are hidden", change=_short),
    "no_recurrence": Case(
        task=HIDDEN, part="horizon", why="the state is reset at every step where velocities are hidden",
        build=MemorylessRun,
    ),
    "reward_bonus_4": Case(
        task="gym:Pendulum-v1", part="returns", why="the reward head learns 4 more for turning one way", bonus=4.0
    ),
    "reward_bonus_16": Case(
        task="gym:Pendulum-v1", part="returns", why="the reward head learns 16 more for turning one way", bonus=16.0
    ),
    "recency_1.5": Case(
        task=CHANGING, part="forgetting", why="sampled by recency alone, exponent 1.5; the task changes",
        change=_recency(1.5),
    ),
    "recency_3": Case(
        task=CHANGING, part="forgetting", why="sampled by recency alone, exponent 3; the task changes",
        change=_recency(3.0),
    ),
    "acrobot": Case(task="gym:Acrobot-v1", why="healthy"),
    "point_mass": Case(task="dmc_point_mass_easy", why="healthy", change=_repeat_two),
    "minigrid_pixels": Case(task="minigrid_empty_random_6x6", why="healthy", change=_pixels, updates=600),
}  # fmt: skip


def configured(case: Case, logdir: Path, seed: int = 0) -> RunConfig:
    """The run's configuration: `quick`, changed as the case says."""
    config = apply(RunConfig(task=case.task, logdir=str(logdir), mode="inline", seed=seed), "quick")
    config = case.change(
        replace(
            config,
            log_every=50,
            report_every=EVERY,
            evaluation=replace(config.evaluation, every=0),
            learner=replace(config.learner, threads=1, device="cpu"),
        )
    )
    learner = config.learner
    steps = case.updates * learner.batch_size * learner.batch_length / learner.train_ratio + 2 * start_items(learner)
    return replace(config, frames=int(steps) * config.environment.action_repeat)


def train(case: Case, logdir: Path, seed: int = 0) -> None:
    """Make the run."""
    run = case.build(configured(case, logdir, seed), logdir)
    if case.bonus:
        run.learner.source = paying_for_speed(run, case.bonus)
    run.run()


def judge(name: str, logdir: Path) -> dict[str, Any]:
    """What a finished run's reports say: every part that is ever unhealthy, and each value at every report. A bad run
    must be flagged for its own part; `others` are parts that it was flagged for besides, or a healthy run at all."""
    case, reports, rules = CASES[name], read_reports(logdir), HealthConfig()
    after = [verdicts(reports[: end + 1], rules) for end in range(len(reports))]
    flagged = sorted(set[str]().union(*map(_parts, after)))
    expected = {case.part} if case.part else set(flagged)
    scores = [line["score"] for line in read_lines(logdir / SCORES)][-20:] if (logdir / SCORES).exists() else []
    return {
        "run": name, "task": case.task, "why": case.why, "expected": case.part, "flagged": flagged,
        "ok": case.part in flagged if case.part else not flagged,
        "others": [part for part in flagged if part != case.part],
        "first": next((reports[i]["updates"] for i, found in enumerate(after) if expected & _parts(found)), None),
        "values": {
            one.name: [_rounded(found[k].value) for found in after] for k, one in enumerate(after[-1])
        } if after else {},
        "states": {one.name: one.state for one in after[-1]} if after else {},
        "updates": [report["updates"] for report in reports],
        "score": sum(scores) / len(scores) if scores else None,
        "seconds_per_report": max((report["seconds"] for report in reports), default=None),
    }  # fmt: skip


def _parts(found: list[Verdict]) -> set[str]:
    return {one.name for one in unhealthy(found)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _child(name: str, folder: Path, seed: int) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.health", "--run", name, "--folder", str(folder)]
    with (folder / f"{name}.log").open("w") as log:
        subprocess.run([*command, "--seed", str(seed)], stdout=log, stderr=subprocess.STDOUT, check=True)


def main() -> int:
    """Make the runs that are missing, judge all; 1 if one was flagged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--folder", type=Path, help="keep the runs here; finished ones are only judged")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--seed", type=int, default=0, help="of every run")
    parser.add_argument("--run", choices=CASES, help="make this run alone")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="health-"))
    folder.mkdir(parents=True, exist_ok=True)
    if chosen.run:
        train(CASES[chosen.run], folder / chosen.run, chosen.seed)
        return 0
    due = [
        name
        for name in CASES
        if max((r["updates"] for r in read_reports(folder / name)), default=0) < CASES[name].updates
    ]
    with ThreadPoolExecutor(chosen.workers) as pool:
        list(pool.map(lambda name: _child(name, folder, chosen.seed), due))
    results = [judge(name, folder / name) for name in CASES]
    print(f"{'run':16} {'expected':11} {'flagged':28} {'horizon':>8} {'returns':>8} {'reward':>7} {'forget':>7}  ok")
    for one in results:
        last = {part: values[-1] for part, values in one["values"].items()}
        numbers = " ".join(
            f"{'-' if (value := last.get(part)) is None else format(value, '.2f'):>{width}}"
            for part, width in (("horizon", 8), ("returns", 8), ("reward", 7), ("forgetting", 7))
        )
        print(
            f"{one['run']:16} {one['expected'] or '-':11} {', '.join(one['flagged']) or '-':28} {numbers}  {one['ok']}"
        )
    right = sum(one["ok"] for one in results)
    if chosen.json:
        print(json.dumps({
            "name": "health", "value": right, "unit": f"of {len(results)} runs flagged as they should",
            "device": describe(torch.device("cpu")), "versions": versions(), "updates": UPDATES, "runs": results,
        }))  # fmt: skip
    return 0 if right == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
