"""The interface of an environment whose observation is one array, so that several can be stepped straight into rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from actors.episode_metrics import Info

Outcome = tuple[float, bool, bool, Sequence[Info]]
"""Of one step: the reward, is_last, is_terminal and infos; see `Step`."""


class RowStepping(NamedTuple):
    """How an environment is stepped without a dictionary of arrays for each step; third-party code in these calls is
    not kept from ending the program."""

    key: str
    dtype: np.dtype
    """Of its own observations, not of the space."""
    shape: tuple[int, ...]
    native: Callable[[Mapping[str, np.ndarray]], Sequence[Any]]
    """Actions `[N, ...]` as those that N environments like this one take."""
    step: Callable[[Any, np.ndarray, int], Outcome]
    """Called with such an action, `rows [N, *shape]` and i, it writes the observation to `rows[i]`."""


@runtime_checkable
class StepsByRows(Protocol):
    """An Environment that may have a RowStepping."""

    def row_stepping(self) -> RowStepping | None:
        """Called once its checks are deferred, see `DefersChecks`; None: it is stepped like any other."""
