"""Clips that are encoded once."""

import numpy as np
import pytest

from learner.datasets.batches import Batches
from learner.datasets.encoded import Encoded
from tests.learner.datasets.test_subset import Numbers


class Clips(Numbers):
    """Each has its number, and one that is drawn."""

    def example(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"frames": np.array([index, rng.integers(1000)]), "actions": np.array([index])}


def test_each_clip_is_encoded_once() -> None:
    asked: list[int] = []

    def encode(frames: np.ndarray) -> np.ndarray:
        asked.append(int(frames[0]))
        return frames.astype(np.float32) / 2

    def batches() -> Batches:
        return Batches(Encoded(Clips(), 4, encode, seed=3), size=2, seed=0, threads=0)

    ours = batches()
    seen = [ours.batch(k) for k in range(4)]
    assert len(asked) == len(set(asked)) == 4, "two passes, one encoding of each of four"
    assert set(seen[0]) == {"actions", "latents"} and seen[0]["latents"].dtype == np.float32
    for batch in seen:
        np.testing.assert_array_equal(batch["latents"][:, 0] * 2, batch["actions"][:, 0])
    again = batches().batch(3)
    np.testing.assert_array_equal(again["latents"], seen[3]["latents"], "batches depend on their number alone")


def test_there_may_be_fewer_clips_and_none_that_change() -> None:
    some = Encoded(Clips(), 400, lambda frames: frames, seed=0)
    assert len(some) == 10 and some.describe() == "10 clips, encoded once, of ten numbers"
    with pytest.raises(ValueError, match="does not change"):
        Encoded(Clips(live=True), 4, lambda frames: frames, seed=0)
