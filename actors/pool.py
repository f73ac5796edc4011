"""The interface of a back end that steps several environments itself; see `PoolEnvironment` for its use."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from world_models.space import Spaces


class PoolStep(NamedTuple):
    """What N environments answered to one call. The arrays are the caller's: no later call changes them.

    `is_last` marks the end of an episode; `is_terminal`, which implies it, that the task itself ended there. `infos`:
    numbers `[N]` under the names of `actors.episode_metrics`; those of an episode's last step count, and the ones under
    `log/KEY` are aggregated over its steps.
    """

    observation: dict[str, np.ndarray]
    """Per key of `observation_space`, in its dtype: `[N, *shape]`."""
    reward: np.ndarray
    """Floats `[N]`, of a begun episode not read."""
    is_last: np.ndarray
    """bool `[N]`."""
    is_terminal: np.ndarray
    """bool `[N]`."""
    infos: Mapping[str, np.ndarray] = MappingProxyType({})


@runtime_checkable
class Pool(Protocol):
    """N environments of one task, stepped together by their back end.

    Actions are those of `Environment`: continuous ones in [-1, 1] but unclipped, discrete ones int32. Time limit and
    action repeat are the pool's own business, as is the begin of an episode after one that ended. A pool that raises
    is closed and not used again.
    """

    observation_space: Spaces
    action_space: Spaces
    """As the agent sees it: bounds of -1 and 1, the environment's own in `Space.native`."""
    frames_per_step: int
    backend: str
    """The program that simulates, such as `envpool`; it is stored with every score."""

    def __len__(self) -> int: ...

    def reset(self, seeds: Sequence[int]) -> PoolStep:
        """Begin an episode in every environment. `seeds` `[N]`, each in [0, 2^31), determine this episode, and with
        the actions all that follow; environments with equal seeds are equal."""

    def step(self, actions: Mapping[str, np.ndarray], ended: np.ndarray) -> PoolStep:
        """Apply actions `[N, *shape]`, float32 or int32 and not to be changed. Environments that `ended`, bool `[N]`,
        because their newest answer had `is_last`, begin an episode instead and ignore theirs."""

    def render(self, i: int) -> np.ndarray:
        """Render environment `i` for people: uint8 `[H W 3]`. Raises CannotDrawError if it cannot be rendered."""

    def close(self) -> None:
        """Free all environments; nothing is used afterwards."""
