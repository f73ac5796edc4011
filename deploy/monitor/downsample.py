"""Fewer points that look the same: the smallest and the largest of each stretch stay."""

from collections.abc import Sequence

import numpy as np


def shared_axis(xs: Sequence[np.ndarray], most: int, logarithmic: bool = False) -> np.ndarray | None:
    """Edges [most // 2 + 1] of the stretches for lines on one axis; None if all their points may stay."""
    there = [one for one in xs if len(one)]
    if sum(map(len, there)) <= most:
        return None
    low, high = min(float(one[0]) for one in there), max(float(one[-1]) for one in there)
    if logarithmic and high > 0:
        return np.geomspace(max(low, 1.0), max(high, 2.0), most // 2 + 1)
    return np.linspace(low, high if high > low else low + 1, most // 2 + 1)


def min_max(xs: np.ndarray, ys: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Two values for each stretch [2 (E - 1)]: its extremes in the order in which they come; NaN where there is no
    point. `xs` ascend; of a value that is alone both are the same."""
    good = np.isfinite(ys)
    xs, ys = xs[good], ys[good]
    stretches = len(edges) - 1
    out = np.full(2 * stretches, np.nan)
    if not len(xs):
        return out
    bins = np.clip(np.searchsorted(edges, xs, side="right") - 1, 0, stretches - 1)
    order = np.lexsort((ys, bins))  # within each stretch from smallest to largest
    sorted_bins = bins[order]
    first = np.flatnonzero(np.r_[True, np.diff(sorted_bins) > 0])
    last = np.r_[first[1:], len(order)] - 1
    low, high, where = order[first], order[last], sorted_bins[first]
    out[2 * where], out[2 * where + 1] = ys[np.minimum(low, high)], ys[np.maximum(low, high)]
    return out


def middle_points(edges: np.ndarray) -> np.ndarray:
    """Where `min_max` draws its values [2 (E - 1)]."""
    width = np.diff(edges)
    return np.stack([edges[:-1] + width / 4, edges[:-1] + 3 * width / 4], 1).ravel()
