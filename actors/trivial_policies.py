"""Policies that learn nothing: the baselines that a score has to beat."""

from typing import Any, Protocol

import numpy as np

from world_models.space import Spaces

Arrays = dict[str, np.ndarray]
_BLOCK = 64  # calls


class Policy(Protocol):
    """Acts for N environments at once; the same `draw` gives the same actions."""

    def initial(self, rows: int) -> Any:
        """The carry before the first step of N environments."""

    def act(self, carry: Any, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[Any, Arrays, Arrays]:
        """Observation keys `[N ...]`, `is_first` bool `[N]` to the next carry, actions and latents `[N ...]`."""


class RandomPolicy:
    """Uniform actions: any class, or any value in [-1, 1].

    A generator costs more to seed than to draw from, so that actions are drawn for a block of calls at once.
    """

    def __init__(self, action_space: Spaces, seed: int = 0) -> None:
        self.action_space, self.seed = action_space, seed
        self._block: Arrays = {}
        self._of = (-1, -1)  # number and rows of the block

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        if self._of != (of := (draw // _BLOCK, len(is_first))):
            self._block, self._of = self._drawn(*of), of
        return None, {key: block[draw % _BLOCK] for key, block in self._block.items()}, {}

    def _drawn(self, number: int, rows: int) -> Arrays:
        rng = np.random.default_rng([self.seed, number])
        return {
            key: rng.integers(space.classes, size=(_BLOCK, rows, *space.shape), dtype=np.int32)
            if space.discrete
            else rng.uniform(-1, 1, (_BLOCK, rows, *space.shape)).astype(np.float32)
            for key, space in sorted(self.action_space.items())
        }


class ZeroPolicy:
    """Always the first class, or 0: the middle of a bounded range."""

    def __init__(self, action_space: Spaces) -> None:
        self.action_space = action_space

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        rows = len(is_first)
        zeros = {key: np.zeros((rows, *space.shape), space.dtype) for key, space in self.action_space.items()}
        return None, zeros, {}
