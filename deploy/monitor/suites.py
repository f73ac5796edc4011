"""Scores over all tasks of a suite whose scores have a common scale: Atari's relative to a human, DMC's to 1000."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from deploy.monitor.curves import SEED, Question, Seeds, labels, line_of, on_a_grid
from deploy.monitor.run import Run
from deploy.reports.comparison.numbers import SHARE, Reaching, normalised_scores
from deploy.reports.curves import Curve
from deploy.reports.statistics import Normaliser, estimate, frames_to, normaliser, profile, profile_thresholds

_ONES = {"human": "a human's score, 0 that of random play", "maximum": "1000, the largest score possible"}


def suite_of(task: str) -> str:
    """`suite:atari` or `suite:dmc`; empty for a task whose scores have no scale."""
    return f"suite:{task.partition('_')[0]}" if normaliser(task) else ""


def scale_of(tasks: Sequence[str]) -> Normaliser:
    """The scale of a suite's first task, whose kind is that of all."""
    found = normaliser(tasks[0])
    assert found, f"{tasks[0]} belongs to no suite"
    return found


def method_line(
    seeds: Seeds, curves: Sequence[Curve], question: Question, at: float, goal: float, points: int
) -> dict[str, Any]:  # fmt: skip
    """A method's line over its tasks; and of its `curves` over frames the scores at `at` frames, by default at the end
    of its shortest run on each task, and the frames to a normalised score, which `points` of their points must have.
    Nothing but its own runs has an effect on it."""
    ends: dict[str, float] = {}
    for curve in curves:
        ends[curve.task] = min(at or float(curve.xs[-1]), ends.get(curve.task, float("inf")))
    line = line_of(seeds, question, normalised=True)
    line.pop("grid")
    scores = normalised_scores(curves, ends.__getitem__)
    return {
        **line, "seeds": [], "dots": None, "ends": [min(ends.values()), max(ends.values())],
        "each": {task: {"mean": float(values.mean()), "n": len(values)} for task, values in sorted(scores.items())},
        "overall": _overall(list(scores.values()), scale_of([curves[0].task])),
        "reach": _reach(curves, ends, goal, points),
    }  # fmt: skip


def _overall(scores: Sequence[np.ndarray], scale: Normaliser) -> dict[str, Any] | None:
    """Statistics and performance profile of normalised scores by task; None if no run has one."""
    if not scores:
        return None
    drawn = profile(scores, profile_thresholds(scale.scale))
    found = {name: asdict(estimate(name, scores)) for name in ("iqm", "mean", "median")}
    shape = {"x": drawn.thresholds, "y": drawn.share, "low": drawn.low, "high": drawn.high}
    return {**found, "profile": shape, "few": drawn.runs < 3}


def _reach(curves: Sequence[Curve], ends: Mapping[str, float], goal: float, points: int) -> dict[str, Any]:
    """The median over all runs of the frames to a normalised score; those that do not reach it come last."""
    frames = [frames_to(replace(curve, ys=scale_of([curve.task])(curve.ys)), goal, SHARE * ends[curve.task], points)
              for curve in curves]  # fmt: skip
    found = Reaching("", "", goal, frames)
    return {"middle": found.middle, "reached": sum(one is not None for one in frames), "of": len(frames)}


def suite_answer(
    suite: str, methods: Mapping[str, Sequence[Run]], lines: Mapping[str, dict[str, Any]], places: Mapping[str, int]
) -> dict[str, Any]:  # fmt: skip
    """What the page draws: as of a task, with a method in the place of a group."""
    tasks = sorted({run.configuration.task for runs in methods.values() for run in runs})
    named = labels(methods, without=("task",))
    groups = []
    for method, line in lines.items():
        runs = methods[method]
        label = named[method] | {"label": _label(runs)}
        live = any(run.active for run in runs)
        groups.append({"id": method, "place": places[method], "live": live, **label, **line})
    names = [one["label"] for one in groups]
    for one in groups:
        if names.count(one["label"]) > 1 and one["detail"]:
            one["label"], one["detail"] = f"{one['label']}, {one['detail']}", ""
    about = {"tasks": tasks, "one": _ONES[scale_of(tasks).scale] if tasks else ""}
    return {"task": suite, "groups": groups, "baselines": [], "values": ["score"], "offline": False, "suite": about}


def published_lines(
    curves: Sequence[Curve], tasks: Sequence[str], question: Question, at: float, goal: float
) -> list[dict[str, Any]]:  # fmt: skip
    """Published methods on the same tasks; those that lack one of them are left out."""
    methods: dict[str, list[Curve]] = {}
    for curve in curves:
        if curve.task in tasks and not curve.constant:
            methods.setdefault(curve.method, []).append(curve)
    return [
        {"name": method, "level": None} | method_line(on_a_grid(own, question), own, question, at, goal, 1)
        for method, own in methods.items() if {curve.task for curve in own} == set(tasks)
    ]  # fmt: skip


def _label(runs: Sequence[Run]) -> str:
    """What the names of runs on several tasks have in common, without task and seed; else the method."""
    stems = set()
    for run in runs:
        task = run.configuration.task
        name = run.name
        for part in (task, task.partition("_")[2], task.partition("_")[2].replace("_", "-")):
            name = name.replace(part, "")
        stems.add(SEED.sub("", name).strip("-_/. "))
    method = str(runs[0].configuration.values.get("method", "") or "")
    (stem,) = stems if len(stems) == 1 else ("",)
    return re.sub(r"[-_/]{2,}", "-", stem) or method.upper() or "Nexus"
