"""What planners ask of a world model, and its states as trees of tensors.

Legend: N rows, H steps, A width of an action vector, F features, E reward heads.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from world_models.space import Spaces

State = Any
"""A latent state of N rows: a tensor `[N ...]`, or a (named) tuple of states."""
Observation = Any
"""An observation of N rows: its keys `[N ...]`, or one tensor if the model takes a single vector; None for none."""


@runtime_checkable
class PlanningModel(Protocol):
    """A world model that planners can search.

    Actions are vectors `[N A]`: the keys of the dict action in alphabetical order, continuous values as they are and
    discrete ones one-hot, as `world_models.layers.concat_dict` lays them out. The model embeds them, and makes the
    draws of its own latents.

    A model may also have:
        `rewards(state, action, following) -> [E N]`: the reward of a step, predicted by each of its E heads;
        `continues(state) -> [N]`: the probability in [0, 1] that the episode goes on, its discount included;
        `value(state) -> [N]`: the return from a state on, under the model's own policy;
        `features(state) -> [N F]`: as a `GoalModel`;
        `decode(state)`: the observation.
    """

    @property
    def action_space(self) -> Spaces:
        """The keys of an action; the bounds of continuous ones are what planners search within."""
        ...

    def initial(self, rows: int) -> State:
        """The state before the first observation."""
        ...

    def encode(
        self,
        observation: Observation,
        before: State | None = None,
        action: Float[Tensor, "N A"] | None = None,
        is_first: Bool[Tensor, " N"] | None = None,
    ) -> State:
        """The state at an observation. A model with memory continues from the state `before` it and the action that
        led to it, except where an episode begins; without them it is a first observation."""
        ...

    def step(self, state: State, action: Float[Tensor, "N A"]) -> State:
        """The state that follows an action."""
        ...

    def imagine(self, states: State, actions: Float[Tensor, "N H A"]) -> tuple[State, Observation, Tensor | None]:
        """The H states that follow from each of N `[N H ...]`, their observations and the rewards of the steps
        `[N H]`, None where the model does not predict them. A model whose memory grows leaves it out of the states."""
        ...

    def seed(self, number: int) -> None:
        """Fix the draws to come."""
        ...


@runtime_checkable
class GoalModel(PlanningModel, Protocol):
    """A world model in which plans can lead to a goal."""

    def features(self, state: State) -> Float[Tensor, "... F"]:
        """What the distance of two states is measured in."""
        ...


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """Apply `function` to corresponding tensors of states of the same structure."""
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    parts = [map_state(function, *parts) for parts in zip(*states, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def leaves(state: State) -> list[Tensor]:
    """The tensors of a state, in order."""
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in leaves(part)]


def like(state: State, tensors: Iterable[Tensor]) -> State:
    """`tensors`, in the order of `leaves`, in the structure of `state`."""
    remaining = iter(tensors)
    return map_state(lambda _: next(remaining), state)


def repeat_rows(state: State, count: int) -> State:
    """Every row `count` times: `[N ...]` to `[N * count ...]`, row by row."""
    return map_state(lambda x: x.repeat_interleave(count, 0), state)


def imagine_steps(model: PlanningModel, states: State, actions: Float[Tensor, "N H A"]) -> list[State]:
    """The state after each of H actions."""
    out = []
    for action in actions.unbind(1):
        states = model.step(states, action)
        out.append(states)
    return out


def stack_steps(states: list[State]) -> State:
    """H states `[N ...]` as one `[N H ...]`."""
    return map_state(lambda *parts: torch.stack(parts, 1), *states)


def require(model: object, ability: str, remedy: str) -> None:
    """ValueError if a model lacks the method `ability` of those it may have."""
    if not callable(getattr(model, ability, None)):
        raise ValueError(f"{type(model).__name__} has no {ability}(); {remedy}")
