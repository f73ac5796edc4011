"""Statistics of scores over seeds and tasks, with stratified bootstrap intervals.

After Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice". Scores are a list of
arrays, one for each task, with the score of each of its runs; tasks may differ in their number of runs.

Legend: N runs of a task, M runs of all tasks, R resamples, P points, K thresholds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from actors.envs.atari.human_scores import reference
from deploy.reports.curves import Curve, binned, frame_grid

Statistic = Literal["mean", "median", "iqm"]
Scale = Literal["human", "maximum"]
"""What normalised scores are fractions of: a human's score above random play, or the largest score possible."""
FEWEST = 3
"""With fewer runs of a task an interval says little."""
RESAMPLES = 2000
CONFIDENCE = 0.95
_AT_ONCE = 1 << 22  # numbers that are held at once
LARGEST_DMC = 1000.0  # rewards of at most 1 in each of 1000 steps


class Normaliser(NamedTuple):
    """`(score - zero) / (one - zero)`."""

    zero: float
    one: float
    scale: Scale

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return (scores - self.zero) / (self.one - self.zero)


def normaliser(task: str) -> Normaliser | None:
    """Atari's games relative to random play and a human, DMC's tasks as fractions of 1000; None for others."""
    if game := reference(task):
        return Normaliser(game.random, game.human, "human")
    return Normaliser(0.0, LARGEST_DMC, "maximum") if task.startswith("dmc_") else None


def profile_thresholds(scale: Scale) -> np.ndarray:
    """Normalised scores [K] at which a performance profile is drawn."""
    return np.linspace(0, 2.0 if scale == "human" else 1.0, 101)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic with its bootstrap interval; `low` and `high` are NaN if no task has two runs."""

    value: float
    low: float
    high: float
    tasks: int
    runs: int
    """The fewest runs that a task has."""

    @property
    def few(self) -> bool:
        return self.runs < FEWEST

    @property
    def remark(self) -> str:
        """`2 seeds: too few for an interval that means much`; empty if there are enough."""
        if not self.few:
            return ""
        if np.isnan(self.low):
            return "1 seed: no interval"
        return f"{self.runs} seed{'s' * (self.runs != 1)}: too few for an interval that means much"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The share of runs whose score exceeds each of `thresholds`, with its interval, all [K]."""

    thresholds: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int
    """The fewest runs that a task has."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """A statistic over runs at `xs` frames, with its interval, all [P]; NaN where at most one run of each task is."""

    xs: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int
    """The fewest runs that a task has."""

    @property
    def few(self) -> bool:
        return self.runs < FEWEST


def summary(statistic: Statistic, scores: Sequence[np.ndarray]) -> np.ndarray:
    """The statistic of scores with runs last: [... N] for each task gives [...].

    `mean`: over tasks of each task's mean. `median`: over tasks of each task's mean; of a single task, over its runs.
    `iqm`: the mean of the middle half of the runs of all tasks, `floor(M / 4)` of them left out at either end.
    """
    if statistic == "iqm":
        every = np.sort(np.concatenate(scores, -1), -1)  # [... M]
        cut = every.shape[-1] // 4
        return np.asarray(every[..., cut : every.shape[-1] - cut].mean(-1))
    if statistic == "median" and len(scores) == 1:
        return np.asarray(np.median(scores[0], -1))
    means = np.stack([one.mean(-1) for one in scores], -1)
    return np.asarray(np.median(means, -1) if statistic == "median" else means.mean(-1))


def resamples(counts: Sequence[int], number: int = RESAMPLES, seed: int = 0) -> list[np.ndarray]:
    """Runs drawn with replacement within each task of `counts` runs, `number` times: [R N] for each task."""
    generator = np.random.default_rng(seed)
    return [generator.integers(count, size=(number, count)) for count in counts]


def estimate(
    statistic: Statistic,
    scores: Sequence[np.ndarray],
    *,
    drawn: Sequence[np.ndarray] | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """A statistic and its percentile interval. `drawn`: the resamples, by default those of seed 0.

    ValueError: there is no task, or one without runs.
    """
    scores = _finite(scores)
    drawn = resamples([len(one) for one in scores]) if drawn is None else drawn
    values = summary(statistic, [one[rows] for one, rows in zip(scores, drawn, strict=True)])  # [R]
    low, high = _interval(values, scores, confidence)
    return Estimate(
        value=float(summary(statistic, scores)), low=float(low), high=float(high), tasks=len(scores),
        runs=min(len(one) for one in scores),
    )  # fmt: skip


def profile(
    scores: Sequence[np.ndarray],
    thresholds: np.ndarray,
    *,
    drawn: Sequence[np.ndarray] | None = None,
    confidence: float = CONFIDENCE,
) -> Profile:
    """The performance profile: the share of all runs, of every task, that score above each threshold [K]."""
    scores = _finite(scores)
    drawn = resamples([len(one) for one in scores]) if drawn is None else drawn
    every = np.concatenate(scores)
    again = np.concatenate([one[rows] for one, rows in zip(scores, drawn, strict=True)], -1)  # [R M]
    shares = np.stack([(again > one).mean(-1) for one in thresholds], -1)  # [R K]
    low, high = _interval(shares, scores, confidence)
    share = (every[:, None] > thresholds).mean(0)
    return Profile(thresholds=thresholds, share=share, low=low, high=high, runs=min(len(one) for one in scores))


def improvement(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], *, number: int = RESAMPLES, seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:  # fmt: skip
    """The probability that a run of ours scores above one of theirs on the same task, equal scores counted half; mean
    over tasks, which must be the same ones in the same order."""
    ours, theirs = _finite(ours), _finite(theirs)
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} tasks cannot be compared with {len(theirs)}; give the same tasks for both.")
    pairs = list(zip(ours, theirs, strict=True))
    drawn = resamples([len(one) for pair in pairs for one in pair], number, seed)

    def better(mine: np.ndarray, other: np.ndarray) -> np.ndarray:
        a, b = mine[..., :, None], other[..., None, :]
        return np.asarray(((a > b) + 0.5 * (a == b)).mean((-2, -1)))

    again = [better(a[drawn[2 * i]], b[drawn[2 * i + 1]]) for i, (a, b) in enumerate(pairs)]
    low, high = _interval(np.mean(again, 0), [*ours, *theirs], confidence)
    return Estimate(
        value=float(np.mean([better(a, b) for a, b in pairs])), low=float(low), high=float(high), tasks=len(pairs),
        runs=min(len(one) for pair in pairs for one in pair),
    )  # fmt: skip


def score_at(curve: Curve, frames: float, width: float) -> float | None:
    """The mean of the points in (frames - width, frames]. None if there are none, unless the curve's last point before
    is no further than another two widths away (long episodes end rarely)."""
    ys = curve.ys[(curve.xs > frames - width) & (curve.xs <= frames)]
    if len(ys):
        return float(ys.mean())
    before = np.flatnonzero((curve.xs <= frames) & (curve.xs > frames - 3 * width))
    return float(curve.ys[before[-1]]) if len(before) else None


def frames_to(curve: Curve, threshold: float, width: float, points: int = 1) -> float | None:
    """The frame at which the mean of the points of the last `width` frames, or of the last `points` if those are more,
    first is at least `threshold`; None if it never is. Nothing is reached before `width` frames and `points` points."""
    total = np.concatenate([[0.0], np.cumsum(curve.ys)])
    first = np.searchsorted(curve.xs, curve.xs - width, side="right")  # the first point in (x - width, x]
    last = np.searchsorted(curve.xs, curve.xs, side="right")  # points at the same frame count together
    first = np.maximum(np.minimum(first, last - points), 0)
    means = (total[last] - total[first]) / (last - first)
    reached = np.flatnonzero((means >= threshold) & (curve.xs >= width) & (last >= points))
    return float(curve.xs[reached[0]]) if len(reached) else None


def band(
    curves: Sequence[Curve], width: float, statistic: Statistic = "mean", *, normalised: bool = False,
    number: int = RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE,
) -> Band:  # fmt: skip
    """A statistic over the runs of one or more tasks at multiples of `width` frames.

    A run's value at x is the mean of its points in (x - width, x]; an empty bin is interpolated. A point that fewer
    than half of some task's runs reach is left out. Nothing but these curves has an effect: the same ones give the same
    band, whatever else is drawn. ValueError: scores of a task cannot be `normalised`.
    """
    grid = frame_grid(max(float(curve.xs[-1]) for curve in curves), width)  # [P]
    rows = [binned(curve, grid, width) for curve in curves]
    if normalised:
        rows = [_normalised(curve.task)(row) for curve, row in zip(curves, rows, strict=True)]
    tasks = [curve.task for curve in curves]
    return band_of_rows(tasks, rows, grid, statistic, number=number, seed=seed, confidence=confidence)


def band_of_rows(
    tasks: Sequence[str], rows: Sequence[np.ndarray], grid: np.ndarray, statistic: Statistic = "mean", *,
    number: int = RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE,
) -> Band:  # fmt: skip
    """As `band`, of each run's task and its values on the grid [P], NaN where it has none."""
    by: dict[str, list[np.ndarray]] = {}
    for task, row in zip(tasks, rows, strict=True):
        by.setdefault(task, []).append(row)
    values = [np.stack(one) for one in by.values()]  # [N P] each
    there = [np.isfinite(one) for one in values]
    kept = np.flatnonzero(np.all([one.sum(0) >= max(1, len(one) / 2) for one in there], 0))
    found = np.full((3, len(grid)), np.nan)
    patterns, which = np.unique(np.concatenate(there)[:, kept], axis=1, return_inverse=True)
    for place, pattern in enumerate(patterns.T):  # points that the same runs have reached
        columns = kept[which.ravel() == place]
        ends = np.cumsum([len(one) for one in values])[:-1]
        scores = [one[own][:, columns] for one, own in zip(values, np.split(pattern, ends), strict=True)]
        often = _draws(tuple(map(len, scores)), number, seed)
        found[0, columns] = summary(statistic, [one.T for one in scores])
        found[1:, columns] = _interval(_resampled(statistic, scores, often), scores, confidence)
    value, low, high = found[:, kept]
    return Band(xs=grid[kept], value=value, low=low, high=high, runs=min(map(len, values)))


def _resampled(statistic: Statistic, scores: Sequence[np.ndarray], often: Sequence[np.ndarray]) -> np.ndarray:
    """`summary` of each resample at each point, of scores [N P] and draws [N R] of each task: [R P].

    How often a run is drawn is the same at every point, which spares sorting each resample: after the runs are sorted
    once, the sum of draws up to each says how many of its own lie in the middle.
    """
    if statistic == "mean" or (statistic == "median" and len(scores) > 1):
        means = np.stack([count.T @ values / len(values) for count, values in zip(often, scores, strict=True)])
        return np.asarray(means.mean(0) if statistic == "mean" else np.median(means, 0))  # of [T R P]
    every, counts = np.concatenate(scores), np.concatenate(often)  # [M P], [M R]
    total = len(every)
    cut = total // 4 if statistic == "iqm" else (total - 1) // 2  # of draws left out at either end
    out = np.empty((every.shape[1], counts.shape[1]))
    share = max(1, _AT_ONCE // counts.size)
    for start in range(0, len(out), share):
        columns = every.T[start : start + share]  # [p M]
        order = np.argsort(columns, -1)
        columns = np.take_along_axis(columns, order, -1)
        upto = counts[order]  # [p M R]
        for row in range(1, total):
            upto[:, row] += upto[:, row - 1]
        inside = np.clip(upto[:, :-1], cut, total - cut)
        # The sum of values times their draws inside, by parts.
        ends = columns[:, -1:] * (total - cut) - columns[:, :1] * cut
        out[start : start + share] = ends - (np.diff(columns)[:, None] @ inside)[:, 0]
    return out.T / (total - 2 * cut)


@lru_cache(maxsize=64)
def _draws(counts: tuple[int, ...], number: int, seed: int) -> list[np.ndarray]:
    """How often each run is drawn in each of the `resamples`: [N R] for each task."""
    found = []
    for rows in resamples(counts, number, seed):
        runs = rows.shape[1]
        places = rows * number + np.arange(number)[:, None]
        found.append(np.bincount(places.ravel(), minlength=number * runs).reshape(runs, number).astype(np.float64))
    return found


def by_task(curves: Sequence[Curve], value: Callable[[Curve], float | None]) -> Mapping[str, np.ndarray]:
    """A value of each run, by task, without the runs that have none."""
    found: dict[str, list[float]] = {}
    for curve in curves:
        if (number := value(curve)) is not None:
            found.setdefault(curve.task, []).append(number)
    return {task: np.array(numbers) for task, numbers in found.items()}


def _normalised(task: str) -> Normaliser:
    if (found := normaliser(task)) is None:
        raise ValueError(f"Scores of {task} cannot be normalised; only those of DMC and of Atari 100k's games can.")
    return found


def _finite(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    arrays = [np.asarray(one, np.float64) for one in scores]
    if not arrays or not all(one.ndim == 1 and len(one) and np.isfinite(one).all() for one in arrays):
        raise ValueError(f"Statistics need one or more finite scores of each task, not {[a.tolist() for a in arrays]}.")
    return arrays


def _interval(values: np.ndarray, scores: Sequence[np.ndarray], confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles over the resamples of `values` [R ...]."""
    if max(map(len, scores)) < 2:
        return (np.full(values.shape[1:], np.nan),) * 2
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(values, 0, -1)), -1)  # far faster than np.percentile
    last = ordered.shape[-1] - 1

    def percentile(share: float) -> np.ndarray:
        below = min(int(share * last), last - 1)
        return np.asarray(
            ordered[..., below] + (share * last - below) * (ordered[..., below + 1] - ordered[..., below])
        )

    half = (1 - confidence) / 2
    return percentile(half), percentile(1 - half)
