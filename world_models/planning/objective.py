"""The cost of action sequences in a world model's imagination."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.protocol import PlanningModel, State, repeat_rows


class Transition(NamedTuple):
    """One imagined step of N = P * S rows, problem by problem."""

    state: State
    action: Float[Tensor, "N A"]
    following: State


Cost = Callable[[Any, Iterator[Transition]], Float[Tensor, " N"]]
"""The cost of imagined rows: called with the model and an iterator over their H steps, imagined as it goes."""


class Objective:
    """Evaluates action sequences from the states `[P ...]` of P problems: all P * S rows are one batch of the model.

    The draws of a stochastic model are the same at every call (common random numbers), so that two evaluations differ
    only by the actions. A cost that is not finite counts as infinite.
    """

    def __init__(self, model: PlanningModel, state: State, cost: Cost, draw: int = 0):
        self.model, self.state, self.cost, self.draw = model, state, cost, draw

    def __call__(self, actions: Float[Tensor, "P S H A"]) -> Float[Tensor, "P S"]:
        self.model.seed(self.draw)
        cost = self.cost(self.model, self._steps(actions))
        return torch.where(cost.isfinite(), cost, torch.inf).view(actions.shape[:2])

    def _steps(self, actions: Float[Tensor, "P S H A"]) -> Iterator[Transition]:
        state = repeat_rows(self.state, actions.shape[1])
        for action in actions.flatten(0, 1).unbind(1):
            following = self.model.step(state, action)
            yield Transition(state, action, following)
            state = following
