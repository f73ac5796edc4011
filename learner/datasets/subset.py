"""A part of a dataset, such as what is held out from training."""

from collections.abc import Sequence

import numpy as np

from learner.datasets.dataset import Dataset, Example
from replay.counted import counted


class Subset:
    """The examples of `dataset` with these numbers."""

    live = False

    def __init__(self, dataset: Dataset, numbers: Sequence[int] | np.ndarray) -> None:
        if dataset.live or not len(numbers):
            raise ValueError(
                f"{dataset.describe()}: a part needs at least 1 example, got {len(numbers)}, and data that does not "
                "change while it is read."
            )
        self.dataset, self.numbers = dataset, np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        return self.dataset.example(int(self.numbers[index]), rng)

    def describe(self) -> str:
        return f"{counted(len(self), 'example')} of {self.dataset.describe()}"

    def close(self) -> None:
        self.dataset.close()


def recordings_of(dataset: Dataset) -> np.ndarray:
    """The recording that each example is from, ascending from 0; one for each example where a pass has one of each."""
    found: np.ndarray | None = getattr(dataset, "recording_of", None)
    return np.arange(len(dataset)) if found is None else found


def class_names(dataset: Dataset) -> tuple[str, ...] | None:
    """Names of the classes, which are subfolders of folders of pictures or videos; None where classes have no names."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    found = getattr(dataset, "classes", None)
    return tuple(found) if isinstance(found, list) else None


def held_out(recordings: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the examples to train on and of those held out, ascending. `recordings` are those that the examples
    are from, which stay whole; at least one is held out if `share` > 0 and there are two."""
    length = int(recordings[-1]) + 1
    count = min(length - 1, max(1, round(share * length))) if share else 0
    out = np.isin(recordings, np.random.default_rng([2, seed]).permutation(length)[:count])
    return np.flatnonzero(~out), np.flatnonzero(out)
