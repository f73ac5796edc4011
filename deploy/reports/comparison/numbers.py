"""The numbers of a report: final scores, frames to a score, cost, and scores over whole benchmarks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from deploy.reports.curves import Curve, Note, find_runs, load_baselines, seconds_at_work
from deploy.reports.metrics import METRICS, SCORES, read_lines
from deploy.reports.statistics import Estimate, by_task, estimate, frames_to, normaliser, score_at

SHARE = 0.05
"""Share of a run's frames over which scores are averaged."""
EPISODES = 10
"""The fewest episodes of a run whose mean counts as a score that it has reached."""
REACHED = {
    "gym:CartPole-v1": (450.0,), "gym:Pendulum-v1": (-200.0,), "gym:Acrobot-v1": (-100.0,),
    "gym:LunarLander-v3": (200.0,),
}  # fmt: skip
"""Scores at which a task counts as learned."""
REACHED_DMC = (500.0, 900.0)
METHODS = ("sac", "ppo_fixhp", "dreamerv3")
"""Columns of the table of benchmarks, as score files name them."""


class Benchmark(NamedTuple):
    """A suite of tasks with its budget."""

    name: str
    file: str
    """What the names of its score files begin with."""
    prefix: str
    """What the names of its tasks begin with."""
    frames: int
    one: str
    """The score that counts as 1."""


BENCHMARKS = (
    Benchmark("Atari 100k", "atari100k", "atari_", 400_000, "a human"),
    Benchmark("DMC 500k, vectors", "dmc_proprio", "dmc_", 500_000, "1000, the maximum"),
    Benchmark("DMC 500k, pixels", "dmc_vision", "dmc_", 500_000, "1000, the maximum"),
)


@dataclass(frozen=True, kw_only=True)
class Final:
    """The scores of a method on one task at the end of its shortest run; None if no episode ended there."""

    task: str
    method: str
    runs: int
    frames: float
    mean: Estimate | None
    iqm: Estimate | None


class Reaching(NamedTuple):
    """The frames at which the runs of a method reached a score; None for those that did not."""

    task: str
    method: str
    score: float
    frames: list[float | None]

    @property
    def middle(self) -> float | None:
        """The median over all runs, those that did not reach it last; None if that is one of them."""
        ordered = sorted(self.frames, key=lambda one: float("inf") if one is None else one)
        upper, lower = ordered[len(ordered) // 2], ordered[(len(ordered) - 1) // 2]
        return None if upper is None or lower is None else median([lower, upper])


class Cost(NamedTuple):
    """What a run took; None for what its logs do not say."""

    run: Path
    frames: int
    updates: int
    seconds: float | None
    """At work, pauses between two processes left out."""
    cpu_seconds: float | None


class Standing(NamedTuple):
    """A method on a benchmark; `iqm` None: there is no score file."""

    benchmark: Benchmark
    method: str
    iqm: Estimate | None
    mean: Estimate | None
    median: Estimate | None
    scores: dict[str, list[float]]
    """Normalised, by task."""


def groups(curves: Iterable[Curve]) -> dict[tuple[str, str], list[Curve]]:
    """Curves by task and method."""
    found: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        found.setdefault((curve.task, curve.method), []).append(curve)
    return found


def finals(curves: Iterable[Curve], frames: float | None = None) -> list[Final]:
    """Final scores by task and method, or those at `frames`."""
    found = []
    for (task, method), runs in groups(curves).items():
        end = frames or min(float(run.xs[-1]) for run in runs)
        scores = by_task(runs, lambda run, end=end: score_at(run, end, SHARE * end)).get(task)  # type: ignore[misc]
        there = {} if scores is None else {"mean": estimate("mean", [scores]), "iqm": estimate("iqm", [scores])}
        count = len(runs if scores is None else scores)
        found.append(
            Final(task=task, method=method, runs=count, frames=end, mean=there.get("mean"), iqm=there.get("iqm"))
        )
    return found


def reaching(
    curves: Iterable[Curve], evaluations: Iterable[Curve] = (), scores: Sequence[float] = (),
    published: Iterable[Curve] = (),
) -> list[Reaching]:  # fmt: skip
    """Frames to each of `scores`, by default to those at which the task counts as learned. The points of `published`
    curves are means of several episodes already; an evaluation counts by its own mean."""
    found = []
    kinds = [(groups(curves), EPISODES), (groups(published), 1)]
    ends: dict[str, float] = {}
    for by_group, _ in kinds:
        for (task, _), runs in by_group.items():  # one width for all methods of a task
            ends[task] = min([ends.get(task, float("inf")), *(float(run.xs[-1]) for run in runs)])
    for by_group, points in kinds:
        for (task, method), runs in by_group.items():
            for score in scores or _reached(task):
                width = SHARE * ends[task]
                found.append(Reaching(task, method, score, [frames_to(run, score, width, points) for run in runs]))
    for (task, method), runs in groups(evaluations).items():
        for score in scores or _reached(task):
            reached = [frames_to(run, score, width=1) for run in runs]  # its episodes have the same count of frames
            found.append(Reaching(task, f"{method}, evaluations", score, reached))
    return found


def _reached(task: str) -> tuple[float, ...]:
    return REACHED.get(task) or (REACHED_DMC if task.startswith("dmc_") else ())


def costs(logdirs: Iterable[Path], note: Note) -> list[Cost]:
    """What the runs below `logdirs` took, from their logs. `note` is told of runs whose logs are damaged."""
    found = []
    for run in find_runs(logdirs, note):
        try:
            found.append(_cost(run))
        except ValueError as error:
            note(f"Left out: {error}")
    return found


def _cost(run: Path) -> Cost:
    frames = updates = 0
    times: list[float] = []
    cpu: list[float] = []  # of each process
    for name in (SCORES, METRICS):
        for line in read_lines(run / name, frames=int, updates=int) if (run / name).exists() else ():
            frames, updates = max(frames, line["frames"]), max(updates, line["updates"])
            if isinstance(now := line.get("time"), int | float):
                times.append(now)
            if isinstance(used := line.get("train/cpu_seconds"), int | float):
                if not cpu or used < cpu[-1]:  # a process counts from its own start
                    cpu.append(used)
                cpu[-1] = used
    seconds = float(seconds_at_work(np.array(times))[-1]) if times else None
    return Cost(run, frames, updates, seconds, sum(cpu) if cpu else None)


def standings(files: Iterable[Path]) -> list[Standing]:
    """Every benchmark and method of the table; score files are known by the benchmark that begins their names."""
    found = []
    by_file = [(file, load_baselines([file])) for file in files]
    for benchmark in BENCHMARKS:
        curves = [one for file, of in by_file if file.name.startswith(benchmark.file) for one in of]
        others = [one.method for one in curves if one.method not in METHODS]
        for method in (*METHODS, *dict.fromkeys(others)):
            own = [one for one in curves if one.method == method and not one.constant]
            found.append(_standing(benchmark, method, own))
    return found


def _standing(benchmark: Benchmark, method: str, curves: Sequence[Curve]) -> Standing:
    own = [one for one in curves if one.task.startswith(benchmark.prefix)]
    scores = normalised_scores(own, lambda task: benchmark.frames)
    if not scores:
        return Standing(benchmark, method, None, None, None, {})
    tasks = list(scores.values())
    return Standing(
        benchmark, method, estimate("iqm", tasks), estimate("mean", tasks), estimate("median", tasks),
        {task: values.tolist() for task, values in scores.items()},
    )  # fmt: skip


def normalised_scores(curves: Iterable[Curve], frames: Callable[[str], float]) -> Mapping[str, np.ndarray]:
    """Normalised scores of the runs at `frames(task)`, by task; without runs that end long before, and without tasks
    whose scores have no scale."""

    def score(curve: Curve) -> float | None:
        scale, end = normaliser(curve.task), frames(curve.task)
        found = score_at(curve, end, SHARE * end)
        return None if scale is None or found is None else (found - scale.zero) / (scale.one - scale.zero)

    return by_task(list(curves), score)
