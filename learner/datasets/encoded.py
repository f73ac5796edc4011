"""Clips whose frames a frozen encoder has turned into latents, once. Legend: T frames, D latent."""

from collections.abc import Callable

import numpy as np

from learner.datasets.dataset import Dataset, Example
from learner.datasets.subset import Subset
from replay.counted import counted


class Encoded:
    """`clips` examples of a dataset, drawn by `seed`, with `latents` float32 `[T D]` in place of `frames`.

    `encode` takes the frames of an example; it is called the first time that the example is asked for, and what it
    returns is kept in memory. The draws of that time are kept with it: a random crop, or the place in a recording, is
    the same at every pass. ValueError: the dataset may change while it is read.
    """

    live = False

    def __init__(self, dataset: Dataset, clips: int, encode: Callable[[np.ndarray], np.ndarray], seed: int) -> None:
        chosen = np.random.default_rng(seed).permutation(len(dataset))[:clips]
        self.dataset, self.encode, self.seed = Subset(dataset, chosen), encode, seed
        self._known: dict[int, Example] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """UnreadableError. `rng` is not used: each example has draws of its own."""
        if index not in self._known:
            found = self.dataset.example(index, np.random.default_rng([self.seed, index]))
            latents = self.encode(found["frames"])
            self._known[index] = {key: value for key, value in found.items() if key != "frames"} | {"latents": latents}
        return self._known[index]

    def describe(self) -> str:
        return f"{counted(len(self), 'clip')}, encoded once, of {self.dataset.dataset.describe()}"

    def close(self) -> None:
        self.dataset.close()
