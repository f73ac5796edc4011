"""Score curves: read from runs and from published files, aggregated over seeds, exported.

Legend: N seeds, P points. x is always environment frames, action repeats counted.
"""

import gzip
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from actors.evaluation import confidence_interval
from deploy.metrics import SCORES, Kind, read_lines

CONFIG = "config.yaml"
Band = Literal["ci95", "minmax", "none"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Scores of one seed: `ys[i]` was reached at frame `xs[i]`, both [P], frames ascending."""

    task: str
    method: str
    seed: int
    xs: np.ndarray
    ys: np.ndarray
    constant: bool = False
    """A single score without a course, such as a trivial policy's: drawn as a horizontal line."""
    offline: bool = False
    """Learnt from stored replay: `xs` are replayed frames, not those of environments."""


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Mean over seeds with its band, all [P]; `seeds` is N."""

    xs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def find_runs(logdirs: Iterable[str | Path]) -> list[Path]:
    """The run directories at or below `logdirs`: those with a scores.jsonl."""
    runs: dict[Path, None] = {}
    for logdir in map(Path, logdirs):
        if not logdir.is_dir():
            raise ValueError(f"{logdir} is not a directory; give the logdir of a run, or a directory of runs.")
        found = sorted(path.parent for path in logdir.rglob(SCORES))
        if not found:
            raise ValueError(f"{logdir} holds no {SCORES}; no episode of that run has ended yet, or it is not a run.")
        runs |= dict.fromkeys(found)
    return list(runs)


def load_runs(logdirs: Iterable[str | Path], *, kind: Kind = "train", method: str = "Nexus") -> list[Curve]:
    """One curve a run. Where one task has the same seed twice, the runs are told apart by their directories' names."""
    runs = []
    for path in find_runs(logdirs):
        config = _config(path)
        of = "eval" if config.get("offline") else kind  # without actors there are no other episodes
        lines = [line for line in read_lines(path / SCORES) if line["kind"] == of and line["score"] is not None]
        xs = np.array([line["frames"] for line in lines], np.float64)
        ys = np.array([line["score"] for line in lines], np.float64)
        order = np.argsort(xs, kind="stable")
        runs.append(
            (path, str(config["task"]), int(config.get("seed", 0)), bool(config.get("offline")), xs[order], ys[order])
        )
    taken = [(task, seed) for _, task, seed, *_ in runs]
    named = len(set(taken)) < len(taken)
    return [
        Curve(task=task_name(task), method=path.name if named else method, seed=seed, offline=offline, xs=xs, ys=ys)
        for path, task, seed, offline, xs, ys in runs
        if len(xs)
    ]


def load_baselines(files: Iterable[str | Path]) -> list[Curve]:
    """Curves from JSON (.gz) lists of {task, method, seed, xs, ys}; an entry of one point is a constant."""
    curves = []
    for file in map(Path, files):
        try:
            text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            entries = json.loads(text)
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{file} cannot be read as JSON: {error}; give a .json or .json.gz file.") from error
        curves += [_entry(file, number, entry) for number, entry in enumerate(entries)]
    return curves


def export(curves: Iterable[Curve], file: str | Path) -> None:
    """Writes every point in the format that `load_baselines` reads; compressed where the name ends in .gz."""
    entries = [
        {"task": c.task, "method": c.method, "seed": c.seed, "xs": c.xs.tolist(), "ys": c.ys.tolist()} for c in curves
    ]
    data = json.dumps(entries).encode() + b"\n"
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)


def bin_width(curves: Sequence[Curve], frames: float, bins: int = 50) -> float:
    """A round number of frames (1, 2 or 5 times a power of ten) that gives at most `bins` bins up to `frames` and
    leaves none between two neighbouring points of the coarsest curve."""
    gaps = [float(np.median(np.diff(np.unique(curve.xs)))) for curve in curves if len(np.unique(curve.xs)) > 1]
    wanted = max(frames / bins, *gaps, 1.0) if gaps else max(frames / bins, 1.0)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= wanted * (1 - 1e-9))


def aggregate(curves: Sequence[Curve], width: float, band: Band = "ci95") -> Aggregate:
    """Mean and band over seeds, at multiples of `width` frames.

    A seed's value at x is the mean of its episodes that ended in (x - width, x]; a bin without one is interpolated
    between its neighbours. Points that fewer than half of the seeds reach are left out.
    """
    last = max(float(curve.xs[-1]) for curve in curves)
    grid = width * np.arange(1, max(1, math.ceil(last / width - 1e-9)) + 1)  # [P]
    rows = np.stack([_binned(curve, grid, width) for curve in curves])  # [N P]
    count = np.isfinite(rows).sum(0)  # [P]
    keep = count * 2 >= len(curves)
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


def _binned(curve: Curve, grid: np.ndarray, width: float) -> np.ndarray:
    index = np.maximum(np.ceil(curve.xs / width - 1e-9).astype(int) - 1, 0)  # the bin that ends at or after x
    index, ys = index[index < len(grid)], curve.ys[index < len(grid)]
    count = np.bincount(index, minlength=len(grid))
    full = np.flatnonzero(count)
    means = np.bincount(index, ys, minlength=len(grid))[full] / count[full]
    return np.interp(grid, grid[full], means, left=np.nan, right=np.nan)


def _config(run: Path) -> dict[str, Any]:
    file = run / CONFIG
    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read ({error}); a run's directory has it beside {SCORES}.") from error
    if not isinstance(config, dict) or "task" not in config:
        raise ValueError(f"{file} names no task; it is not a run's configuration.")
    return config


def _entry(file: Path, number: int, entry: Any) -> Curve:
    wanted = ("task", "method", "seed", "xs", "ys")
    if not isinstance(entry, dict) or not set(wanted) <= entry.keys():
        raise ValueError(f"{file}, entry {number} is not an object with {', '.join(wanted)}.")
    xs, ys = np.asarray(entry["xs"], np.float64), np.asarray(entry["ys"], np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape or not len(xs):
        raise ValueError(f"{file}, entry {number}: xs {xs.shape} and ys {ys.shape} must be equally long lists.")
    good = np.isfinite(ys)
    if not good.any():
        raise ValueError(f"{file}, entry {number}: no score among ys is finite.")
    order = np.argsort(xs[good], kind="stable")
    return Curve(
        task=task_name(entry["task"]), method=entry["method"], seed=int(entry["seed"]),
        xs=xs[good][order], ys=ys[good][order], constant=len(xs) == 1,
    )  # fmt: skip
