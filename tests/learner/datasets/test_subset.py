"""Parts of a dataset."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.datasets.dataset import Example
from learner.datasets.subset import Subset, held_out, recordings_of


class Numbers:
    def __init__(self, live: bool = False) -> None:
        self.live, self.closed = live, False

    def __len__(self) -> int:
        return 10

    def example(self, index: int, rng: np.random.Generator) -> Example:
        return {"label": np.asarray(index)}

    def describe(self) -> str:
        return "ten numbers"

    def close(self) -> None:
        self.closed = True


def test_a_part_has_the_examples_with_its_numbers() -> None:
    whole = Numbers()
    part = Subset(whole, [7, 2])
    assert len(part) == 2 and part.describe() == "2 examples of ten numbers"
    assert [int(part.example(i, np.random.default_rng())["label"]) for i in (0, 1)] == [7, 2]
    part.close()
    assert whole.closed
    with pytest.raises(ValueError, match="at least 1 example, got 0"):
        Subset(whole, [])
    with pytest.raises(ValueError, match="does not change"):
        Subset(Numbers(live=True), [1])


@given(st.integers(2, 300), st.floats(0.01, 0.5), st.integers(0, 5), st.integers(1, 4))
def test_what_is_held_out_is_not_trained_on(length: int, share: float, seed: int, clips: int) -> None:
    recordings = np.arange(length).repeat(clips)
    kept, out = held_out(recordings, share, seed)
    assert sorted([*kept, *out]) == list(range(length * clips))
    assert not set(recordings[kept]) & set(recordings[out])
    assert len(out) == clips * max(1, round(share * length)) and len(kept) >= clips
    again = held_out(recordings, share, seed)
    assert np.array_equal(again[0], kept) and np.array_equal(again[1], out)


def test_one_example_is_trained_on() -> None:
    assert [len(part) for part in held_out(np.arange(1), 0.5)] == [1, 0]
    assert [len(part) for part in held_out(np.arange(20), 0.0)] == [20, 0]
    assert recordings_of(Numbers()).tolist() == list(range(10))
