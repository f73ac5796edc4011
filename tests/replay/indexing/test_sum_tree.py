import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.indexing.sum_tree import SumTree

LAST = np.nextafter(1.0, 0.0)


def tree(weights: list[float]) -> SumTree:
    made = SumTree(len(weights))
    made.fill(0, np.array(weights))
    return made


def test_leaves_have_the_share_of_their_weight() -> None:
    drawn = tree([1.0, 0.0, 3.0, 0.0]).draw(np.array([0.0, 0.2499, 0.25, 0.5, LAST]))
    assert drawn.tolist() == [0, 0, 2, 2, 2]


def test_each_way_of_writing() -> None:
    made = SumTree(1000)
    made.fill(60, np.full(200, 2.0))
    made[999] = 5.0
    made.clear(np.array([60, 130, 131]))
    assert made.total == 197 * 2.0 + 5.0
    made[999] = 0.0
    made.clear(np.arange(61, 260))
    assert made.total == 0.0


@pytest.mark.parametrize("size", [1, 63, 64, 65, 4096, 4097, 300_000])
def test_any_size_and_both_ends(size: int) -> None:
    made = SumTree(size)
    made[0] = made[size - 1] = 0.5
    assert made.draw(np.array([0.0, LAST])).tolist() == [0, size - 1]
    assert made.total == (0.5 if size == 1 else 1.0)


def test_a_leaf_without_weight_is_never_drawn_by_rounding() -> None:
    weights = np.zeros(5000)
    weights[[17, 900, 901, 4000]] = [1e-300, 0.1, 1e17, 3e-9]
    made = tree(weights.tolist())
    uniform = np.concatenate(
        [[0.0, LAST, 1e-320, 0.5], np.random.default_rng(0).random(1000), 1 - 2.0 ** -np.arange(53)]
    )
    assert set(made.draw(uniform).tolist()) <= {17, 900, 901, 4000}


@given(
    writes=st.lists(st.tuples(st.integers(0, 299), st.lists(st.integers(0, 9), min_size=1, max_size=150)), max_size=12),
    uniform=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_any_writes_against_a_plain_array(writes: list, uniform: list[float]) -> None:
    made, plain = SumTree(300), np.zeros(300)
    for i, (first, values) in enumerate(writes):
        weights = np.array(values[: 300 - first], float)
        made.fill(first, weights)
        plain[first : first + len(weights)] = weights
        if i % 3 == 0:
            made.draw(np.array([0.5]))  # sums are made anew in between or not
    assert made.total == plain.sum()
    if made.total:
        end = np.cumsum(plain)
        for leaf, at in zip(made.draw(np.array(uniform)), np.array(uniform) * end[-1], strict=True):
            assert plain[leaf] > 0
            assert end[leaf] - plain[leaf] - 1e-9 <= at <= end[leaf] + 1e-9


def test_equal_leaves_draw_equally_however_they_came_to_be() -> None:
    generator = np.random.default_rng(2)
    weights = generator.random(20_000)
    whole, pieces = tree(weights.tolist()), SumTree(20_000)
    for first in generator.permutation(np.arange(0, 20_000, 50)):
        pieces.fill(int(first), generator.random(50))
        if first % 200 == 0:
            assert pieces.total > 0
        pieces.fill(int(first), weights[first : first + 50])
    uniform = generator.random(5000)
    assert whole.total == pieces.total
    np.testing.assert_array_equal(whole.draw(uniform), pieces.draw(uniform))


def test_draws_are_distributed_as_the_weights() -> None:
    generator = np.random.default_rng(1)
    weights = generator.integers(1, 20, 200).astype(float)
    counts = np.bincount(tree(weights.tolist()).draw(generator.random(200_000)), minlength=200)
    expected = 200_000 * weights / weights.sum()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 199) < 5 * np.sqrt(2 * 199), chi_square
