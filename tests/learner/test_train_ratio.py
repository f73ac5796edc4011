"""The train-ratio counter."""

from hypothesis import given
from hypothesis import strategies as st

from learner.train_ratio import TrainRatio


def test_literal() -> None:
    ratio = TrainRatio(0.5)
    assert [ratio(step) for step in (10, 11, 12, 13, 14, 20, 20)] == [1, 0, 1, 0, 1, 3, 0]


def test_zero_never_trains_and_a_negative_ratio_always_does() -> None:
    assert [TrainRatio(0)(step) for step in range(3)] == [0, 0, 0]
    always = TrainRatio(-1)
    assert [always(step) for step in (5, 5, 5)] == [1, 1, 1]


@given(st.sampled_from([2.0**-k for k in range(-3, 9)]), st.lists(st.integers(1, 50), min_size=1, max_size=50))
def test_no_drift(ratio: float, strides: list[int]) -> None:
    """However the steps arrive, the updates are one and then `ratio` a step."""
    counter, step = TrainRatio(ratio), 100
    total = counter(step)
    for stride in strides:
        step += stride
        total += counter(step)
    assert total == 1 + int((step - 100) * ratio)


@given(st.integers(0, 30))
def test_it_continues_from_its_state(cut: int) -> None:
    steps = list(range(0, 300, 7))
    whole, first, second = TrainRatio(0.3), TrainRatio(0.3), TrainRatio(0.3)
    expected = [whole(step) for step in steps]
    got = [first(step) for step in steps[:cut]]
    second.load(first.state())
    assert got + [second(step) for step in steps[cut:]] == expected
