"""`python -m tests.benchmarks.actors`: steps per CPU second of environments alone and in our actor, 16 of each.

The raw programs and our actors are all in this process and take turns, so that a busy machine slows all of them alike.
Ours includes everything that an actor does: checks, encoding, the choice of actions, writes to a store in memory.
The target is at least 0.9 of the raw program's rate below 5,000 steps/s and 0.7 above.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from tests.benchmarks import actors_raw as raw
from tests.benchmarks.actors_ours import Ours, children_seconds
from tests.benchmarks.actors_raw import ENVIRONMENTS, Loop
from tests.benchmarks.machine import describe, matmul_rate, median, versions

FAST = 5000.0
"""Raw steps per second from which 0.7 of them is enough."""
WARM = 4  # calls
SPLIT = 4
"""Where our time goes is measured in turns of their own, shorter by this factor."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of ours, and the raw programs it is compared with; the first simulates what ours does. `parts` are loops
    that do less than a step's work, to be seen beside them."""

    task: str
    preset: str = ""
    raws: dict[str, Callable[[], Loop]]
    parts: dict[str, Callable[[], Loop]] = field(default_factory=dict)


WALKER: dict[str, Callable[[], Loop]] = {
    "dm_control": partial(raw.dm_control, "walker", "walk"), "envpool": partial(raw.envpool, "WalkerWalk-v1"),
}  # fmt: skip
CARTPOLE: dict[str, Callable[[], Loop]] = {
    "gymnasium": partial(raw.gymnasium, "CartPole-v1"),
    "gymnasium, SyncVectorEnv": partial(raw.gymnasium_vector, "CartPole-v1"),
    "gymnasium, CartPole in numpy": partial(raw.gymnasium_vector, "CartPole-v1", "vector_entry_point"),
    "envpool": partial(raw.envpool, "CartPole-v1"),
}


def _first(name: str, raws: dict[str, Callable[[], Loop]]) -> dict[str, Callable[[], Loop]]:
    return {name: raws[name]} | raws


TASKS = {
    "walker": Task(task="dmc_walker_walk", preset="dmc_proprio", raws=WALKER),
    "walker_vision": Task(
        task="dmc_walker_walk", preset="dmc_vision",
        raws={"dm_control": partial(raw.dm_control, "walker", "walk", pixels=True)},
    ),
    "pong": Task(
        task="atari_pong",
        raws={
            "ale-py, AtariVectorEnv": partial(raw.ale_vector, "pong"),
            "envpool": partial(raw.envpool, "Pong-v5", img_height=64, img_width=64, stack_num=1, gray_scale=False),
        },
        parts={"ale-py, emulators alone": partial(raw.ale, "pong")},
    ),
    "coinrun": Task(task="procgen_coinrun", raws={"envpool": partial(raw.envpool, "CoinrunHard-v0")}),
    "crafter": Task(task="crafter_reward", raws={"crafter": raw.crafter}),
    "cartpole": Task(task="gym:CartPole-v1", raws=CARTPOLE),
    "walker_envpool": Task(task="envpool:WalkerWalk-v1", preset="dmc_proprio", raws=_first("envpool", WALKER)),
    "cartpole_envpool": Task(task="envpool:CartPole-v1", preset="gym", raws=_first("envpool", CARTPOLE)),
}  # fmt: skip


@dataclass(kw_only=True)
class Contender:
    """One loop and its steps per CPU and per wall second in every round."""

    loop: Loop
    clock: Callable[[], float] = time.process_time
    calls: int = 1
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def warm_up(self, seconds: float) -> None:
        """Decide how many calls take about `seconds`."""
        for _ in range(WARM):
            self.loop()
        began = time.perf_counter()
        for _ in range(WARM):
            self.loop()
        self.calls = max(1, int(seconds * WARM / (time.perf_counter() - began)))

    def turn(self) -> None:
        busy, wall = self.clock(), time.perf_counter()
        for _ in range(self.calls):
            self.loop()
        steps = self.calls * ENVIRONMENTS
        self.cpu.append(steps / (self.clock() - busy))
        self.wall.append(steps / (time.perf_counter() - wall))


def everything() -> float:
    """CPU seconds of this process and of those that it started."""
    return time.process_time() + children_seconds()


def contenders(task: Task, sizes: Sequence[str]) -> tuple[dict[str, Contender], dict[str, Ours], dict[str, str]]:
    """All loops of a task by name, those that are ours, and why others are missing."""
    found: dict[str, Contender] = {}
    ours: dict[str, Ours] = {}
    missing: dict[str, str] = {}
    named = {f"raw {name}": make for name, make in task.raws.items()} | task.parts
    for name, make in named.items():
        try:
            found[name] = Contender(loop=make())
        except Exception as error:  # whatever a third party raises
            missing[name] = f"{type(error).__name__}: {error}"
    kinds = {"random": ("", "none"), "random, a process each": ("", "process")}
    for kind, (size, isolation) in (kinds | {size: (size, "none") for size in sizes}).items():
        try:
            ours[kind] = loop = Ours(task.task, task.preset, size, isolation)
        except ValueError as error:  # there is no such suite here, or it has no processes
            missing[kind if ours else "ours"] = str(error)
            if not ours:
                break
        else:
            found[kind] = Contender(loop=loop, clock=everything if isolation == "process" else time.process_time)
    return found, ours, missing


def measure(name: str, sizes: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Rates of all loops of a task, and whether ours meets the target beside the first raw one."""
    task = TASKS[name]
    progress(f"{name}: making what is compared")
    found, ours, missing = contenders(task, sizes)
    try:
        for contender in found.values():
            contender.warm_up(seconds)
        for turn in range(rounds):
            progress(f"{name}: round {turn + 1} of {rounds}, {len(found)} turns")
            order = list(found.values())
            for contender in order if turn % 2 else order[::-1]:
                contender.turn()
            for kind, loop in ours.items():
                loop.split(max(1, found[kind].calls // SPLIT))
    finally:
        for loop in ours.values():
            loop.close()
    raws = {kind: contender for kind, contender in found.items() if kind.startswith("raw ")}
    rates = {kind: median(contender.cpu) for kind, contender in found.items()}
    report: dict[str, Any] = {
        "name": name, "task": task.task, "steps_per_cpu_second": rates,
        "steps_per_wall_second": {kind: median(contender.wall) for kind, contender in found.items()},
        "split": {
            kind: {part: spent / loop.spent["all"] for part, spent in loop.spent.items() if part != "all"}
            for kind, loop in ours.items() if kind != "random, a process each"
        },
        "missing": missing,
    }  # fmt: skip
    first = f"raw {next(iter(task.raws))}"
    if "random" in found and first in found:
        ratios = np.divide(found["random"].cpu, found[first].cpu)
        low, ratio, high = np.percentile(ratios, [10, 50, 90]).tolist()
        target = 0.9 if rates[first] < FAST else 0.7
        best = max(raws, key=lambda kind: rates[kind])
        report |= {
            "backend": ours["random"].backend, "beside": first.removeprefix("raw "), "ratio": ratio, "ratio_p10": low,
            "ratio_p90": high, "target": target, "met": ratio >= target, "best": best.removeprefix("raw "),
            "ratio_to_best": rates["random"] / rates[best],
        }  # fmt: skip
    return report


def progress(line: str) -> None:
    """Say what is being done, to people only."""
    print(line, file=sys.stderr, flush=True)


def show(report: dict[str, Any]) -> None:
    """A few lines for people."""
    print(f"{report['name']} ({report['task']}), steps per CPU second:")
    for kind, rate in report["steps_per_cpu_second"].items():
        split = report["split"].get(kind, {})
        parts = "".join(f"  {part} {share:.2f}" for part, share in split.items())
        print(f"  {kind:32}{rate:12,.0f}{parts}")
    for kind, reason in report["missing"].items():
        print(f"  {kind:32}{'missing':>12}  {reason}")
    if "ratio" in report:
        met = "met" if report["met"] else "NOT met"
        print(
            f"  random / raw {report['beside']}: {report['ratio']:.3f} ({report['ratio_p10']:.3f}-"
            f"{report['ratio_p90']:.3f}), target {report['target']}: {met}; to the fastest raw one ({report['best']}): "
            f"{report['ratio_to_best']:.3f}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.actors", description=__doc__)
    parser.add_argument("--only", default=",".join(TASKS), help=f"names separated by commas, of: {', '.join(TASKS)}")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every loop")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn")
    parser.add_argument("--sizes", default="size1m,size12m", help="policies, separated by commas; empty for none")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := [name for name in names if name not in TASKS]:
        parser.error(f"--only: {', '.join(unknown)} is not one of {', '.join(TASKS)}")
    torch.set_num_threads(1)
    sizes = list(filter(None, options.sizes.split(",")))
    reports = []
    for name in names:
        reports.append(measure(name, sizes, options.rounds, options.seconds))
        if not options.json:
            show(reports[-1])
            sys.stdout.flush()
    device = torch.device("cpu")
    document = {
        "name": "actors", "unit": "steps per CPU second", "device": describe(device), "versions": versions(),
        "threads": 1, "environments": ENVIRONMENTS, "rounds": options.rounds, "seconds": options.seconds,
        "matmul_gflops": median(matmul_rate(device)), "tasks": reports,
    }  # fmt: skip
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
