"""Thinned-out and smoothed lines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.monitor.answers import plain, to_text
from deploy.monitor.downsample import middle_points, min_max, shared_axis
from deploy.monitor.metric_lines import smoothed


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 40))
def test_extremes_stay_where_they_are(values: list[float], stretches: int) -> None:
    xs, ys = np.arange(len(values), dtype=float), np.array(values)
    edges = np.linspace(0, len(values), stretches + 1)
    thin, places = min_max(xs, ys, edges), middle_points(edges)
    assert np.nanmin(thin) == ys.min() and np.nanmax(thin) == ys.max()
    for place, value in zip(places, thin, strict=True):
        stretch = (xs >= np.floor(place - 1e-9) - len(values) / stretches) & (xs <= place + len(values) / stretches)
        assert np.isnan(value) or value in ys[stretch]


def test_two_values_of_a_stretch_come_in_their_order() -> None:
    xs, ys = np.arange(8.0), np.array([5.0, 1, 2, 3, 0, 0, 9, np.nan])
    assert min_max(xs, ys, np.array([0.0, 4, 8])).tolist() == [5, 1, 0, 9]
    empty = min_max(np.array([1.0]), np.array([2.0]), np.array([0.0, 4, 8]))
    assert empty[:2].tolist() == [2, 2] and np.isnan(empty[2:]).all()


def test_few_points_all_stay() -> None:
    assert shared_axis([np.arange(5.0), np.arange(4.0)], 9) is None
    edges = shared_axis([np.arange(5.0), np.arange(4.0)], 8)
    assert edges is not None and edges.tolist() == [0, 1, 2, 3, 4]


def test_an_exponential_average_is_corrected_at_its_start() -> None:
    assert smoothed(np.array([4.0, 4, 4]), 0.9) == pytest.approx([4, 4, 4])
    assert smoothed(np.array([1.0, 3.0]), 0.5) == pytest.approx([1, (0.5 * 1 + 3) / 1.5])
    assert smoothed(np.array([1.0, 3.0]), 0.0).tolist() == [1, 3]


def test_answers_are_json_whatever_is_in_them() -> None:
    assert to_text({"a": np.array([1.23456789012, np.nan, np.inf, 0.0, -2e-3, 1e300])}) == (
        '{"a":[1.234568,null,null,0.0,-0.002,1e+300]}'
    )
    assert plain([float("nan"), np.float32(0.5), {"x": (1, None)}]) == [None, 0.5, {"x": [1, None]}]
