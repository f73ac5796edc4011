"""What an environment leaves to whoever steps several: checks of values for all at once, and the array of rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from actors.episode_metrics import Info
from actors.faults import LARGEST
from world_models.space import Spaces

Outcome = tuple[float, bool, bool, Sequence[Info]]
"""Of one step: the reward, is_last, is_terminal and infos; see `Step`."""


@runtime_checkable
class DefersChecks(Protocol):
    """An Environment that can leave copies and checks of its observations to whoever steps several."""

    def defer_checks(self) -> bool:
        """From now on, leave out what `RowChecks` sees, and return vectors in any dtype and shape that `np.array` turns
        into the space's, which hold until the next call; False: it goes on as before."""

    def check_last(self) -> None:
        """Check the newest observation in full. Raises BrokenEnvironmentError."""


class RowStepping(NamedTuple):
    """How an environment is stepped without a dictionary of arrays for each step; third-party code in these calls is
    not kept from ending the program."""

    key: str
    dtype: np.dtype
    """Of its own observations, not of the space."""
    shape: tuple[int, ...]
    native: Callable[[Mapping[str, np.ndarray]], Sequence[Any]]
    """Actions `[N, ...]` as those that N environments like this one take."""
    into: Callable[[np.ndarray], Callable[[Any], Outcome]]
    """Given an array `[*shape]`, how to step it by such an action with the observation written there."""


@runtime_checkable
class StepsByRows(Protocol):
    """An Environment that may have a RowStepping."""

    def row_stepping(self) -> RowStepping | None:
        """Called once its checks are deferred, see `DefersChecks`; None: it is stepped like any other."""


class RowChecks:
    """Finds the rows whose floats are not finite or lie outside their space.

    It compares float32 with bounds in float32, so a row that it finds may still be right: the environment decides that
    by its own value. No wrong row escapes it, since the slack of that check is wider than a rounding to float32.
    """

    def __init__(self, observation_space: Spaces, count: int) -> None:
        # In the full shape of N rows: numpy compares arrays of one shape several times faster.
        self._bounds = {
            key: tuple(
                np.full((count, *space.shape), side)
                for side in (np.maximum(space.low, np.float32(-LARGEST)), np.minimum(space.high, np.float32(LARGEST)))
            )
            for key, space in observation_space.items()
            if space.dtype.kind == "f"
        }

    def doubtful(self, rows: Mapping[str, np.ndarray]) -> list[int]:
        """The numbers of the rows `[N, ...]` that need a closer look."""
        found: set[int] = set()
        for key, (low, high) in self._bounds.items():
            inside = (rows[key] >= low) & (rows[key] <= high)
            if np.count_nonzero(inside) < inside.size:  # the fastest way to ask for all
                found |= set(np.flatnonzero(~inside.reshape(len(inside), -1).all(1)).tolist())
        return sorted(found)
