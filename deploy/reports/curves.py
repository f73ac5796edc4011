"""Score curves: read from runs and from published files, aggregated over seeds, exported.

Legend: N seeds, P points. x is always environment frames, action repeats counted.
"""

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from actors.evaluation import confidence_interval
from deploy.reports.metrics import EPISODE_KEYS, SCORES, Kind, in_short, read_lines
from deploy.wiring.config_file import read_values
from replay.counted import counted
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import RUN_CONFIG

Band = Literal["ci95", "minmax", "none"]
Note = Callable[[str], object]
NOT_VALUES = frozenset(EPISODE_KEYS) - {"score", "length"}
"""Columns of scores.jsonl that are no outcome of an episode."""
_SHORTEST_PAUSE, _UNUSUAL = 60.0, 10.0  # seconds, and times the usual step
_LARGEST = 1e100  # larger numbers cannot be averaged and drawn without overflow


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Scores of one seed: `ys[i]` was reached at frame `xs[i]`, both [P], frames ascending."""

    task: str
    method: str
    seed: int
    xs: np.ndarray
    ys: np.ndarray
    constant: bool = False
    """A single score, such as that of a trivial policy: drawn as a horizontal line."""
    offline: bool = False
    """Learned from stored replay: `xs` counts replayed frames, not environment frames."""


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Mean over seeds with its band, all [P]; `seeds` is N."""

    xs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


class Runs(NamedTuple):
    """The scores of several runs."""

    curves: list[Curve]
    """One per run, of its training episodes; for an offline run, which has none, of its evaluations."""
    evaluations: list[Curve]
    damaged: list[str]
    """One line for each run that was skipped because it is unreadable or missing."""


class _Run(NamedTuple):
    path: Path
    task: str
    method: str
    seed: int
    offline: bool
    scores: dict[Kind, tuple[np.ndarray, np.ndarray]]


def find_runs(logdirs: Iterable[str | Path], note: Note = print) -> list[Path]:
    """The run directories at or below `logdirs`, those with a scores.jsonl. `note` is told of others."""
    runs: dict[Path, None] = {}
    for logdir in map(Path, logdirs):
        found = sorted(path.parent for path in logdir.rglob(SCORES)) if logdir.is_dir() else []
        if not found:
            reason = (
                "is not a directory" if not logdir.is_dir()
                else "has no score yet" if (logdir / RUN_CONFIG).exists()
                else f"has no {SCORES}, so it is not a run"
            )  # fmt: skip
            note(f"{logdir} {reason}: left out.")
        runs |= dict.fromkeys(found)
    return list(runs)


def load_runs(
    logdirs: Iterable[str | Path], *, value: str = "score", method: str = "Nexus", note: Note = print
) -> Runs:
    """The scores of the runs in `logdirs`, or their values in another column of scores.jsonl.

    `method` names the runs of `nexus train`; baselines have names of their own. Runs with the same task, method and
    seed are told apart by their directories. `note` is told of what is skipped: missing, damaged or without it.
    """
    runs: list[_Run] = []
    named = [Path(logdir) for logdir in logdirs]
    damaged = [f"{logdir} does not exist." for logdir in named if not logdir.exists()]
    for line in damaged:
        note(f"Left out: {line}")
    for path in find_runs([logdir for logdir in named if logdir.exists()], note):
        try:
            runs.append(_run(path, value, note))
        except ValueError as error:
            damaged.append(str(error))
            note(f"Left out: {error}")
    taken = [(run.task, run.method, run.seed) for run in runs]
    names = distinct_names([run.path for run in runs]) if len(set(taken)) < len(taken) else {}

    def curves(kind: Kind) -> list[Curve]:
        return [
            Curve(
                task=run.task, method=names.get(run.path, run.method or method), seed=run.seed, offline=run.offline,
                xs=xs, ys=ys,
            )
            for run in runs
            for xs, ys in [run.scores["eval" if run.offline else kind]]
            if len(xs)
        ]  # fmt: skip

    return Runs(curves("train"), curves("eval"), damaged)


def load_baselines(files: Iterable[str | Path]) -> list[Curve]:
    """Curves from JSON (.gz) lists of {task, method, seed, xs, ys}; an entry of one point is a constant."""
    curves = []
    for file in map(Path, files):
        try:
            text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            entries = json.loads(text)
        except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
            raise ValueError(f"{file} cannot be read as JSON: {error}; give a .json or .json.gz file.") from error
        if not isinstance(entries, list):
            raise ValueError(f"{file} is not a list of curves, but a {type(entries).__name__}; see plot --export.")
        curves += [_entry(file, number, entry) for number, entry in enumerate(entries)]
    return curves


def told_apart(known: Iterable[Curve], files: Mapping[str | Path, Sequence[Curve]]) -> list[Curve]:
    """The curves of score files. If a task and seed of a method are known already, from a run or from a file before it,
    the file's method goes by `METHOD, FILE`: otherwise two curves of a seed would count as two seeds."""
    taken = {(one.task, one.method, one.seed) for one in known}
    shortest = distinct_names([Path(file) for file in files])
    out = []
    for file, curves in files.items():
        own = {(one.task, one.method, one.seed) for one in curves}
        twice = {method for _, method, _ in own & taken}
        names = {method: f"{method}, {shortest[Path(file)]}" for method in twice}
        out += [replace(one, method=names.get(one.method, one.method)) for one in curves]
        taken |= own
    return out


def export(curves: Iterable[Curve], file: str | Path) -> None:
    """Writes every point in the format that `load_baselines` reads; compressed if the name ends in .gz."""
    entries = [
        {"task": c.task, "method": c.method, "seed": c.seed, "xs": c.xs.tolist(), "ys": c.ys.tolist()} for c in curves
    ]
    data = json.dumps(entries).encode() + b"\n"
    file = Path(file)
    with whole_file(file) as fresh:
        fresh.write_bytes(gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)


def bin_width(curves: Sequence[Curve], frames: float, bins: int = 50) -> float:
    """A round number of frames (1, 2 or 5 times a power of ten) that gives at most `bins` bins up to `frames` and no
    empty bin between neighbouring points of the coarsest curve."""
    steps = [steps[steps > 0] for curve in curves for steps in (np.diff(curve.xs),)]
    gaps = [float(np.median(own)) for own in steps if len(own)]
    wanted = max(frames / bins, *gaps, 1.0) if gaps else max(frames / bins, 1.0)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= wanted * (1 - 1e-9))


def aggregate(curves: Sequence[Curve], width: float, band: Band = "ci95") -> Aggregate:
    """Mean and band over seeds, at multiples of `width` frames.

    A seed's value at x is the mean of its episodes that ended in (x - width, x]; an empty bin is interpolated between
    its neighbours. Points that fewer than half of the seeds reach are dropped; if no point is reached by half of them,
    all but the points reached by most.
    """
    grid = frame_grid(max(float(curve.xs[-1]) for curve in curves), width)  # [P]
    rows = np.stack([binned(curve, grid, width) for curve in curves])  # [N P]
    count = np.isfinite(rows).sum(0)  # [P]
    keep = count >= min(len(curves) / 2, count.max())
    grid, rows, count = grid[keep], rows[:, keep], count[keep]
    mean = np.nanmean(rows, 0)
    low, high = mean, mean
    if band == "minmax":
        low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
    elif band == "ci95":
        ends = np.array([confidence_interval(column[np.isfinite(column)].tolist()) for column in rows.T])  # [P 2]
        low, high = np.where(np.isnan(ends.T), mean, ends.T)
    return Aggregate(xs=grid, mean=mean, low=low, high=high, seeds=len(curves))


def task_name(task: str) -> str:
    """The name that published curves use."""
    return task.replace("dmc_cup_", "dmc_ball_in_cup_")


def seconds_at_work(times: np.ndarray) -> np.ndarray:
    """Seconds of work until each line, of the times [P] at which lines were written, in seconds since 1970.

    A step to the next line that takes over a minute and ten times as long as usual is a pause between two lives of the
    run, and counts as a usual one; so does the time before the first line. A clock that is set back counts nothing.
    """
    if not len(times):
        return times
    steps = np.maximum(np.diff(times), 0)
    usual = float(np.median(steps)) if len(steps) else 0.0
    steps = np.where(steps > max(_UNUSUAL * usual, _SHORTEST_PAUSE), usual, steps)
    return np.concatenate([[usual], usual + np.cumsum(steps)])


def frame_grid(last: float, width: float) -> np.ndarray:
    """Multiples of `width` frames, the last of which is not below `last`: [P]."""
    return width * np.arange(1, max(1, math.ceil(last / width - 1e-9)) + 1)


def binned(curve: Curve, grid: np.ndarray, width: float) -> np.ndarray:
    """The mean of the points in (x - width, x] for each x of `grid` (multiples of `width`), both [P]. An empty bin is
    interpolated between its neighbours; NaN before the first and after the last."""
    index = np.maximum(np.ceil(curve.xs / width - 1e-9).astype(int) - 1, 0)  # the bin that ends at or after x
    index, ys = index[index < len(grid)], curve.ys[index < len(grid)]
    count = np.bincount(index, minlength=len(grid))
    full = np.flatnonzero(count)
    means = np.bincount(index, ys, minlength=len(grid))[full] / count[full]
    return np.interp(grid, grid[full], means, left=np.nan, right=np.nan)


def _run(path: Path, value: str, note: Note) -> _Run:
    """Raises ValueError naming the file, and the line, that is wrong."""
    config = _config(path)
    columns: set[str] = set()
    scores: dict[Kind, tuple[list[float], list[float]]] = {"train": ([], []), "eval": ([], [])}
    unusable = 0
    for number, line in enumerate(read_lines(path / SCORES), start=1):
        where = f"{path / SCORES}, line {number}"
        kind = line.get("kind")
        if kind not in scores:
            raise ValueError(f"{where} is not a score of kind train or eval: {in_short(line)}; remove that line.")
        columns |= line.keys()
        if value not in line and value != "score":  # an environment need not report it in every episode
            continue
        frames, score = _number(line.get("frames")), _number(line.get(value), missing=math.nan)
        if frames is None or score is None or not 0 <= frames < _LARGEST:
            raise ValueError(f"{where} needs numbers for frames and {value}: {in_short(line)}; remove that line.")
        if abs(score) < _LARGEST:  # false for NaN
            xs, ys = scores[kind]
            xs.append(frames)
            ys.append(score)
        else:
            unusable += 1
    if unusable:
        are = "is" if unusable == 1 else "are"
        what = counted(unusable, "score" if value == "score" else "value")
        note(f"{path / SCORES}: {what} {are} not finite, or beyond {_LARGEST:g}: left out.")
    elif not any(xs for xs, _ in scores.values()):
        others = sorted(columns - NOT_VALUES)
        only = f", only {', '.join(others[:12])}{', ...' if len(others) > 12 else ''}" if others else ""
        note(f"{path} has no {value} yet{only}: left out.")
    ordered = {}
    for key, (xs, ys) in scores.items():
        order = np.argsort(xs, kind="stable")
        ordered[key] = np.array(xs, np.float64)[order], np.array(ys, np.float64)[order]
    baseline = f"{str(config['method']).upper()}, RLlib" if config.get("method") else ""
    return _Run(path, task_name(config["task"]), baseline, config["seed"], bool(config.get("offline")), ordered)


def _config(run: Path) -> dict[str, Any]:
    file = run / RUN_CONFIG
    config = read_values(run)
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        raise ValueError(f"{file} names no task, so it is not the configuration of a run.")
    seed = config.setdefault("seed", 0)
    if not isinstance(seed, int):
        raise ValueError(f"{file}: seed is {seed!r}, which is not an integer; correct it.")
    return config


def _entry(file: Path, number: int, entry: Any) -> Curve:
    wanted, where = ("task", "method", "seed", "xs", "ys"), f"{file}, entry {number}"
    if not isinstance(entry, dict) or not set(wanted) <= entry.keys():
        raise ValueError(f"{where} is not an object with {', '.join(wanted)}.")
    for key in ("task", "method"):
        if not isinstance(entry[key], str) or not entry[key]:
            raise ValueError(f"{where}: {key} is {entry[key]!r}, which is not a string.")
    seed = entry["seed"]
    if not isinstance(seed, int):
        raise ValueError(f"{where}: seed is {seed!r}, which is not an integer; use 0 if there is none.")
    try:
        xs, ys = (np.array([np.nan if v is None else v for v in entry[key]], np.float64) for key in ("xs", "ys"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: xs and ys must be lists of numbers: {error}.") from error
    if xs.ndim != 1 or xs.shape != ys.shape or not len(xs):
        raise ValueError(f"{where}: xs {xs.shape} and ys {ys.shape} must be lists of equal length.")
    if not (good := (np.abs(ys) < _LARGEST) & (xs >= 0) & (xs < _LARGEST)).any():
        raise ValueError(f"{where}: no point has finite frames among xs and a finite score among ys.")
    order = np.argsort(xs[good], kind="stable")
    return Curve(
        task=task_name(entry["task"]), method=entry["method"], seed=seed, xs=xs[good][order], ys=ys[good][order],
        constant=len(xs) == 1,
    )  # fmt: skip


def distinct_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The shortest path suffixes that are all different."""
    full, names = {path: path.resolve().parts for path in paths}, dict[Path, str]()
    for depth in range(1, max(map(len, full.values()), default=0) + 1):
        names = {path: "/".join(parts[-depth:]) for path, parts in full.items()}
        if len(set(names.values())) == len(set(full.values())):
            break
    return names


def _number(value: Any, missing: float | None = None) -> float | None:
    """`value` as a float; None if it is not a number; `missing` for a null, which stands for a non-finite number."""
    if value is None:
        return missing
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except OverflowError:
        return math.inf
