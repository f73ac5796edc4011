"""Curves of groups of seeds, of single runs, and published ones, as the page draws them. Legend: P points."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deploy.monitor.configuration import differing
from deploy.monitor.history import EVAL, TRAIN
from deploy.monitor.run import Run
from deploy.reports.curves import Curve, bin_width, binned, frame_grid
from deploy.reports.statistics import Statistic, band_of_rows, normaliser
from deploy.wiring.config_file import COMMAND

Axis = Literal["frames", "hours", "updates"]
_HOUR = 3600.0
_DOTS = 600  # episodes of a lone run that are drawn
_NAMED = 3  # fields that a label names
SEED = re.compile(r"[-_. /]*(seed|s)?[-_]?\d+$")  # at the end of a name


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the page wants to see."""

    axis: Axis = "frames"
    value: str = "score"
    """A column of scores.jsonl."""
    kind: Literal["train", "eval"] = "train"
    statistic: Statistic = "mean"
    bins: int = 50
    """The most points of a curve."""


def curve_of(run: Run, question: Question) -> Curve | None:
    """A value of a run's episodes over the axis; hours in seconds. None if there is none."""
    ys, kinds = run.scores.column(question.value), run.scores.column("kind")
    offline = bool(run.configuration.values.get("offline"))
    wanted = EVAL if question.kind == "eval" or offline else TRAIN
    xs = run.scores.column("updates" if question.axis == "updates" else "frames")
    if question.axis == "hours":
        frames, seconds = run.seconds()
        if not len(frames):
            return None
        xs = np.interp(xs, np.r_[0.0, frames], np.r_[0.0, seconds])
    good = (kinds == wanted) & np.isfinite(ys) & np.isfinite(xs)
    if not good.any():
        return None
    xs, ys = xs[good], ys[good]
    order = np.argsort(xs, kind="stable")
    task = run.configuration.task
    return Curve(task=task, method=run.name, seed=run.configuration.seed, xs=xs[order], ys=ys[order], offline=offline)


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Some runs on one grid [P]: what every statistic over them needs, without their single points."""

    runs: list[Run]
    tasks: list[str]
    rows: list[np.ndarray]
    """Values [P] of each run."""
    grid: np.ndarray
    width: float
    last: float
    """Where the longest run ends."""
    dots: dict[str, Any] | None
    """Single episodes of a lone run."""


def curves_of(runs: Sequence[Run], question: Question) -> tuple[list[Run], list[Curve]]:
    """The runs that have a curve, and their curves."""
    found = [(run, curve) for run in runs if (curve := curve_of(run, question)) is not None]
    return [run for run, _ in found], [curve for _, curve in found]


def on_a_grid(curves: Sequence[Curve], question: Question, runs: Sequence[Run] = ()) -> Seeds:
    """The curves at multiples of a width that gives at most `question.bins` points."""
    last = max(float(curve.xs[-1]) for curve in curves)
    width = bin_width(curves, last, question.bins)
    grid = frame_grid(last, width)
    dots = _dots(curves[0]) if len(curves) == 1 and question.kind == "train" else None
    return Seeds(
        runs=list(runs), tasks=[curve.task for curve in curves], rows=[binned(curve, grid, width) for curve in curves],
        grid=grid, width=width, last=last, dots=dots,
    )  # fmt: skip


def group_curve(seeds: Seeds, question: Question) -> dict[str, Any]:
    """The line of one group. Nothing but its own runs has an effect on it."""
    line = line_of(seeds, question)
    kept = np.isin(seeds.grid, line.pop("grid"))
    each = [{"id": run.id, "name": run.name, "y": row[kept]} for run, row in zip(seeds.runs, seeds.rows, strict=True)]
    dots = seeds.dots and seeds.dots | {"x": seeds.dots["x"] / unit_of(question)}
    return line | {"seeds": each, "dots": dots}


def line_of(seeds: Seeds, question: Question, normalised: bool = False) -> dict[str, Any]:
    """A statistic over runs, of one task or, `normalised`, of several."""
    rows, last = seeds.rows, seeds.last
    if normalised:
        scales = [normaliser(task) for task in seeds.tasks]
        rows = [scale(row) if scale else row for scale, row in zip(scales, rows, strict=True)]
    middle = band_of_rows(seeds.tasks, rows, seeds.grid, question.statistic)
    grid = middle.xs
    values = {"y": middle.value, "low": middle.low, "high": middle.high}
    xs = np.minimum(middle.xs, last)
    if len(xs) > 1 and last - middle.xs[-2] < seeds.width / 4:  # a last bin that has hardly begun would bend the line
        xs, values = xs[:-1], {name: value[:-1] for name, value in values.items()}
        grid = grid[:-1]
    unit = unit_of(question)
    return {
        "x": xs / unit, "grid": grid, **values, "width": seeds.width / unit, "n": len(seeds.rows), "few": middle.few,
    }  # fmt: skip


def unit_of(question: Question) -> float:
    """What the page's axis counts in: hours, of curves in seconds."""
    return _HOUR if question.axis == "hours" else 1.0


def _dots(curve: Curve) -> dict[str, Any]:
    """Single episodes; if there are many, evenly spread ones and the extremes."""
    chosen = np.arange(len(curve.xs))
    if len(chosen) > _DOTS:
        even = np.linspace(0, len(chosen) - 1, _DOTS).astype(int)
        chosen = np.unique(np.r_[even, curve.ys.argmin(), curve.ys.argmax()])
    return {"x": curve.xs[chosen], "y": curve.ys[chosen]}


def baseline_curves(curves: Iterable[Curve], task: str, question: Question) -> list[dict[str, Any]]:
    """Published scores of a task, which are over frames; one of a single point is a level."""
    by_method: dict[str, list[Curve]] = {}
    for curve in curves:
        if curve.task == task and question.value == "score":
            by_method.setdefault(curve.method, []).append(curve)
    found = []
    for method, own in by_method.items():
        if own[0].constant:
            found.append({"name": method, "n": len(own), "level": float(np.mean([one.ys[0] for one in own]))})
        elif question.axis == "frames":
            found.append({"name": method, "level": None} | line_of(on_a_grid(own, question), question))
    return found


def labels(groups: Mapping[str, Sequence[Run]], without: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """For each group of a task what its runs are called in common, and in which fields, but those `without`, it differs
    from the others that the same command began."""
    by_command: dict[str, dict[str, dict[str, Any]]] = {}
    for group, runs in groups.items():
        values = runs[0].configuration.values
        by_command.setdefault(str(values.get(COMMAND, "train")), {})[group] = values
    out: dict[str, dict[str, Any]] = {}
    for command, members in by_command.items():
        fields = {name: of for name, of in differing(list(members.values())).items() if name not in without}
        for place, group in enumerate(members):
            own = {name: values[place] for name, values in fields.items()}
            words = [f"{name.rpartition('.')[2].replace('_', ' ')} {_shown(value)}" for name, value in own.items()]
            rest = [f"+{len(words) - _NAMED} more"] if len(words) > _NAMED else []
            said = [command] if len(by_command) > 1 else []
            detail = " · ".join([*said, *words[:_NAMED], *rest])
            out[group] = {"label": _common_name(groups[group]), "detail": detail, "fields": own}
    names = [one["label"] for one in out.values()]
    for group, one in out.items():
        if names.count(one["label"]) > 1:
            one["label"] = groups[group][0].name
    return out


def _common_name(runs: Sequence[Run]) -> str:
    """The name that most runs have without their seed."""
    if len(runs) == 1:
        return runs[0].name
    stems = Counter(SEED.sub("", run.name) for run in runs)
    return stems.most_common(1)[0][0] or runs[0].name


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ("yes" if value else "no") if isinstance(value, bool) else "none" if value in (None, "") else str(value)[:40]
