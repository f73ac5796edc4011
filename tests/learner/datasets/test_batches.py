"""Batches depend on seed and number alone; every pass shows each example once; bad examples are counted and named."""

from itertools import islice

import numpy as np
import pytest

from learner.datasets.batches import Batches
from learner.datasets.dataset import Example, UnreadableError


class Numbers:
    """Example i is i, with a random draw; those in `bad` cannot be read."""

    def __init__(self, size: int, bad: frozenset[int] = frozenset(), live: bool = False) -> None:
        self.size, self.bad, self.live = size, bad, live

    def __len__(self) -> int:
        return self.size

    def example(self, index: int, rng: np.random.Generator) -> Example:
        if index in self.bad:
            raise UnreadableError(f"file{index}", "it is damaged")
        return {"index": np.asarray(index), "draw": rng.random(2)}

    def describe(self) -> str:
        return "numbers"

    def close(self) -> None:
        return None


def same(one: Example, other: Example) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("live", [False, True])
def test_a_batch_depends_on_seed_and_number_alone(live: bool) -> None:
    data = Numbers(37, frozenset({3, 30}), live)
    first = list(islice(Batches(data, size=5, seed=1, threads=0).after(), 20))
    assert first[0]["draw"].shape == (5, 2)
    for threads in (0, 1, 4):
        batches = Batches(data, size=5, seed=1, threads=threads)
        assert all(map(same, batches.after(7), first[7:]))  # from the middle on, as after a restart
        assert same(batches.batch(19), first[19])
    assert not same(Batches(data, size=5, seed=2).batch(0), first[0])


def test_a_pass_shows_every_example_once() -> None:
    data = Numbers(24)
    batches = Batches(data, size=8, seed=0, threads=2)
    drawn = [batch["index"].tolist() for batch in islice(batches.after(), 6)]
    passes = [*drawn[0], *drawn[1], *drawn[2]], [*drawn[3], *drawn[4], *drawn[5]]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(24))
    assert passes[0] != passes[1]


def test_a_batch_may_be_larger_than_the_dataset() -> None:
    assert sorted(Batches(Numbers(3), size=9, seed=0).batch(0)["index"].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_processes_share_a_batch() -> None:
    data = Numbers(24)
    whole = Batches(data, size=8, seed=0).batch(2)
    parts = [Batches(data, size=4, seed=0, rank=rank, world_size=2).batch(2) for rank in range(2)]
    assert same(whole, {key: np.concatenate([part[key] for part in parts]) for key in whole})


def test_up_to_a_tenth_may_be_unreadable() -> None:
    bad = frozenset(range(0, 200, 10))
    batches = Batches(Numbers(200, bad), size=50, seed=0, threads=3)
    seen = np.concatenate([batch["index"] for batch in islice(batches.after(), 8)])
    assert not bad & set(seen.tolist()) and len(set(seen.tolist())) == 180
    text = batches.unreadable.describe()
    assert len(batches.unreadable) == 20
    assert text.startswith("unreadable and skipped: 20: file") and text.endswith("(it is damaged); and 10 more")


@pytest.mark.parametrize(("size", "bad"), [(200, 21), (10, 2), (1, 1), (100_000, 100_000)])
def test_more_than_a_tenth_is_an_error(size: int, bad: int) -> None:
    batches = Batches(Numbers(size, frozenset(range(bad))), size=10, seed=0, threads=2)
    with pytest.raises(ValueError, match=r"of [\d,]+ examples? cannot be read, more than 10% may not: file\d+ \(it is"):
        list(islice(batches.after(), 100))


def test_examples_that_do_not_fit_together_are_named() -> None:
    class Ragged(Numbers):
        def example(self, index: int, rng: np.random.Generator) -> Example:
            return {"frames": np.zeros((1, 8 + index % 2, 8, 3), np.uint8)}

    with pytest.raises(ValueError, match=r"\[1, 8, 8, 3\].* and .*\[1, 9, 8, 3\].*Give a size"):
        Batches(Ragged(8), size=8, seed=0).batch(0)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="got size=0"):
        Batches(Numbers(3), size=0, seed=0)
    with pytest.raises(ValueError, match="rank=2, world_size=2"):
        Batches(Numbers(3), size=1, seed=0, rank=2, world_size=2)
