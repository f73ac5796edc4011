"""The interface of an environment to the actors. An episode is one `reset` and the `step`s after it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from actors.episode_metrics import Info
from replay.step import RESERVED
from world_models.space import Spaces

_TAKEN = frozenset({*RESERVED, "deter", "stoch"})
"""What replay stores beside the observation and action keys, latents included."""


class CannotDrawError(ValueError):
    """An environment cannot be rendered, at all or on this machine; the message says what to do."""


class Step(NamedTuple):
    """One observation with the reward and flags that came with it.

    `is_last` marks the end of the episode; `is_terminal` means that the task itself ended there. A truncation, such as
    a time limit, sets only `is_last`; a termination sets both. An environment whose `terminal_goes_on` is true may set
    `is_terminal` alone: the return ends there, but not the episode, as after a lost life. `infos`: what the environment
    reports for the metrics of its episode, one entry for each frame that reports anything.
    """

    observation: dict[str, np.ndarray]
    reward: float
    is_last: bool
    is_terminal: bool
    infos: Sequence[Info] = ()


@runtime_checkable
class Environment(Protocol):
    """A task to act in. Contract: tests/contracts/test_environment.py.

    Continuous actions arrive scaled to [-1, 1] per dimension but unclipped (dimensions without bounds are not scaled),
    discrete ones as int32. One `step` takes `frames_per_step` frames. `reset` with the same seed, followed by the same
    actions, gives the same episode. `step` before a reset, or after `is_last`, raises ValueError.
    """

    observation_space: Spaces
    action_space: Spaces
    frames_per_step: int
    backend: str
    """The program that simulates it, such as `dm_control`; it is stored with every score."""

    def reset(self, seed: int) -> Step:
        """Begin the episode that `seed` determines."""

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Apply one action, an array of the space's shape for every key of `action_space`."""

    def render(self) -> np.ndarray:
        """Render the current state for people: uint8 `[H W 3]`. Raises CannotDrawError if it cannot be rendered."""

    def close(self) -> None:
        """Free the environment's resources; it is not used afterwards. Raises nothing: errors become warnings."""


def require_names(observation_space: Spaces, action_space: Spaces, task: str) -> None:
    """Raise ValueError unless all keys are distinct and none is reserved for replay."""
    for where, keys in (("observation", observation_space), ("action", action_space)):
        if taken := sorted(_TAKEN & keys.keys()):
            raise ValueError(
                f"{task}: {where} keys {taken} are reserved ({sorted(_TAKEN)}); rename them in the environment."
            )
    if both := sorted(observation_space.keys() & action_space.keys()):
        raise ValueError(f"{task}: keys {both} are both an observation and an action; rename one of each.")
