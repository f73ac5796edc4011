"""A world whose best plans are known: a point on a line, or one that switches moves."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from world_models.protocol import imagine_steps, stack_steps
from world_models.space import Space, Spaces


class Point(NamedTuple):
    """Positions `[N D]` and the steps done `[N 1]`."""

    position: Tensor
    time: Tensor


class PointMass:
    """`position += action / 4`; the reward is minus the distance to 1 in each dimension, by two heads that disagree.

    It counts its calls and the rows of the last one.
    """

    def __init__(self, dimensions: int = 2):
        low, high = np.full(dimensions, -1.0, np.float32), np.full(dimensions, 1.0, np.float32)
        self.action_space: Spaces = {"push": Space(dtype=np.dtype(np.float32), shape=(dimensions,), low=low, high=high)}
        self.calls = self.rows = 0
        self.seeds: list[int] = []

    def initial(self, rows: int) -> Point:
        return Point(torch.zeros(rows, self.action_space["push"].shape[0]), torch.zeros(rows, 1))

    def encode(self, observation: Any, before: Any = None, action: Any = None, is_first: Any = None) -> Point:
        position = torch.as_tensor(observation["vector"])
        return Point(position, torch.zeros(len(position), 1))

    def step(self, state: Point, action: Tensor) -> Point:
        self.calls, self.rows = self.calls + 1, len(action)
        return Point(state.position + action / 4, state.time + 1)

    def imagine(self, states: Point, actions: Tensor) -> tuple[Point, Tensor, None]:
        following = stack_steps(imagine_steps(self, states, actions))
        return following, following.position, None

    def features(self, state: Point) -> Tensor:
        return state.position

    def rewards(self, state: Point, action: Tensor, following: Point) -> Tensor:
        gap = (following.position - 1).abs().sum(-1)
        return torch.stack([-gap, -3 * gap])

    def seed(self, number: int) -> None:
        self.seeds.append(number)


class MortalPointMass(PointMass):
    """One that goes on with probability 1/2 at each step, and is worth 10 wherever it gets."""

    def continues(self, state: Point) -> Tensor:
        return torch.full((len(state.position),), 0.5)

    def value(self, state: Point) -> Tensor:
        return torch.full((len(state.position),), 10.0)
