"""Lines of one metric of single runs: smoothed over all their points, then thinned out. Legend: P points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.signal import lfilter

from deploy.monitor.curves import Axis
from deploy.monitor.downsample import middle_points, min_max, shared_axis
from deploy.monitor.run import Run

MOST = 3000  # points of one line before it is thinned out
MOST_TOGETHER = 400_000  # of all lines


def metric_lines(
    runs: Sequence[Run], name: str, axis: Axis, decay: float = 0.0, logarithmic: bool = False
) -> dict[str, Any]:
    """One shared `x` [P], and for each run that has the metric `y` [P] and, if smoothed, `raw` [P]; NaN for gaps.

    `decay`: 0 for none, otherwise that of an exponential average, corrected for its start.
    """
    drawn: list[tuple[Run, np.ndarray, np.ndarray]] = []
    for run in runs:
        xs, ys = _points(run, name, axis)
        if len(xs):
            drawn.append((run, xs, ys))
    most = int(np.clip(MOST_TOGETHER // max(1, len(drawn)), 200, MOST)) // 2 * 2
    longest = max((len(xs) for _, xs, _ in drawn), default=0)
    edges = shared_axis([xs for _, xs, _ in drawn], most, logarithmic) if longest * len(drawn) > most else None
    union = np.unique(np.concatenate([xs for _, xs, _ in drawn])) if drawn else np.empty(0)

    def placed(xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        if edges is not None:
            return min_max(xs, ys, edges)
        out = np.full(len(union), np.nan)
        out[np.searchsorted(union, xs)] = ys
        return out

    lines = []
    for run, xs, ys in drawn:
        line = {"id": run.id, "name": run.name, "group": run.group, "y": placed(xs, smoothed(ys, decay))}
        lines.append(line | ({"raw": placed(xs, ys)} if decay else {}))
    x = union if edges is None else middle_points(edges)
    return {"x": x, "lines": lines, "thinned": edges is not None}


def _points(run: Run, name: str, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    log = run.metrics
    ys = log.column(name)
    if axis == "hours":
        frames, seconds = run.seconds()
        xs = np.interp(log.column("frames"), frames, seconds / 3600) if len(frames) else np.full(len(log), np.nan)
    else:
        xs = log.column(axis)
    good = np.isfinite(xs) & np.isfinite(ys)
    order = np.argsort(xs[good], kind="stable")
    return xs[good][order], ys[good][order]


def smoothed(ys: np.ndarray, decay: float) -> np.ndarray:
    """`sum_k decay^k y[i - k] / sum_k decay^k` over all earlier points, this one included [P]."""
    if not decay or not len(ys):
        return ys
    averages = np.asarray(lfilter([1 - decay], [1, -decay], ys))
    return averages / (1 - decay ** np.arange(1, len(ys) + 1))
