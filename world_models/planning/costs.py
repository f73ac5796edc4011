"""What plans are judged by: predicted reward, the distance to a goal, or a function of single steps.

Each is a `Cost`: a function of the model and its imagined steps. Legend: E reward heads, F features.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from world_models.planning.objective import Transition
from world_models.protocol import State, require

DISTANCES = ("l1", "l2")


@dataclass(frozen=True, kw_only=True)
class RewardCost:
    """Minus the predicted return, `-(sum_t w_t r_t + w_H V(s_H))` with `w_t = prod_{k<t} discount c_k`.

    c is the model's probability that the episode goes on, V its value; each is left out where the model has none. With
    an ensemble of reward heads the return is the mean of theirs less `pessimism` of their standard deviations.
    """

    discount: float = 1.0
    """Beside the one in the model's own c."""
    bootstrap: bool = True
    """Add the value of the last state, if the model predicts one."""
    pessimism: float = 0.0
    """Standard deviations of the return over reward heads to subtract."""

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1:
            raise ValueError(f"RewardCost discount={self.discount} must lie in [0, 1].")
        if self.pessimism < 0:
            raise ValueError(f"RewardCost pessimism={self.pessimism} must not be negative.")

    def __call__(self, model: Any, steps: Iterator[Transition]) -> Float[Tensor, " N"]:
        require(model, "rewards", "plan towards a goal, or with a function, in place of rewards.")
        weight: Any = 1.0
        returns: Any = 0.0
        last: State = None
        for state, action, last in steps:
            returns = returns + weight * model.rewards(state, action, last)  # [E N]
            weight = weight * self.discount
            if hasattr(model, "continues"):
                weight = weight * model.continues(last)
        if self.bootstrap and hasattr(model, "value"):
            returns = returns + weight * model.value(last)
        return self.pessimism * returns.std(0, correction=0) - returns.mean(0)


@dataclass(frozen=True, kw_only=True)
class GoalCost:
    """The distance of features to those of a goal: the mean over features of absolute (`l1`, V-JEPA 2-AC's energy) or
    squared (`l2`) differences, of the last state that counts or, with `every_step`, summed over all of them."""

    goal: Float[Tensor, "P ..."]
    """Features of the goal of each problem, `model.features(model.encode(goal))`."""
    distance: str = "l1"
    every_step: bool = False
    steps: Int[Tensor, " P"] | None = None
    """The steps of each problem that count, at least 1: those that are left of its episode. All if None."""

    def __post_init__(self) -> None:
        if self.distance not in DISTANCES:
            raise ValueError(f"GoalCost distance={self.distance!r} is not one of {DISTANCES}.")

    def __call__(self, model: Any, steps: Iterator[Transition]) -> Float[Tensor, " N"]:
        require(model, "features", "plan for its predicted reward, or with a function.")
        total: Tensor | float = 0.0
        following: State = None
        ends = math.inf if self.steps is None else int(self.steps.max())
        for step, (_, _, following) in enumerate(steps, 1):
            if self.steps is not None:
                counts = self.steps >= step if self.every_step else self.steps == step
                total = total + self._apart(model.features(following)) * counts[:, None]
            elif self.every_step:
                total = total + self._apart(model.features(following))
            if step >= ends:
                break
        return (total if isinstance(total, Tensor) else self._apart(model.features(following))).flatten()

    def _apart(self, features: Float[Tensor, "N ..."]) -> Float[Tensor, "P S"]:
        problems = len(self.goal)
        gap = features.reshape(problems, len(features) // problems, -1) - self.goal.reshape(problems, 1, -1)
        return (gap.abs() if self.distance == "l1" else gap.square()).mean(-1)


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The sum of a function of your own over the steps."""

    function: Callable[[State, Tensor, State], Tensor]
    """Called with state, action `[N A]` and the state that follows; returns costs `[N]`."""

    def __call__(self, model: Any, steps: Iterator[Transition]) -> Float[Tensor, " N"]:
        return torch.stack([self.function(*step) for step in steps]).sum(0)
