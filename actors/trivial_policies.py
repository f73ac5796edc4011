"""Policies that learn nothing: the baselines that a score has to beat."""

from typing import Any, Protocol

import numpy as np

from world_models.space import Spaces

Arrays = dict[str, np.ndarray]


class Policy(Protocol):
    """Acts for N environments at once; the same `draw` gives the same actions."""

    def initial(self, rows: int) -> Any:
        """The carry before the first step of N environments."""

    def act(self, carry: Any, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[Any, Arrays, Arrays]:
        """Observation keys `[N ...]`, `is_first` bool `[N]` to the next carry, actions and latents `[N ...]`."""


class RandomPolicy:
    """Uniform actions: any class, or any value in [-1, 1]."""

    def __init__(self, action_space: Spaces, seed: int = 0) -> None:
        self.action_space, self.seed = action_space, seed

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        rng, rows = np.random.default_rng([self.seed, draw]), len(is_first)
        actions = {
            key: rng.integers(space.classes, size=(rows, *space.shape), dtype=np.int32)
            if space.discrete
            else rng.uniform(-1, 1, (rows, *space.shape)).astype(np.float32)
            for key, space in sorted(self.action_space.items())
        }
        return None, actions, {}


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
