"""The interface of several environments that are stepped together: rows in, rows out, resets by themselves."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from actors.repairs import EnvironmentFault
from world_models.space import Spaces

Rows = dict[str, np.ndarray]


def episode_seed(run_seed: int, env_index: int, episode: int) -> int:
    """The seed of one episode, in [0, 2^31): the same on every machine, unrelated between neighbours."""
    digest = hashlib.sha256(f"{run_seed}/{env_index}/{episode}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


@dataclass(kw_only=True, slots=True)
class Episode:
    """A finished episode: `length` in frames, `env_index` across the whole run. `frames`: the run's frames at its end,
    as known to whoever passes it on. `metrics`: numbers from the environment's info, see `episode_metrics`; `notes`:
    lines about them for the run's log. `backend`: the program that simulated it, such as `dm_control`."""

    env_index: int
    episode: int
    seed: int
    score: float
    length: int
    frames: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    backend: str = ""


def score_text(score: float) -> str:
    """A score with one decimal, `497.3`, or with two below 10: `0.96`."""
    return f"{score:,.{1 if abs(score) >= 10 else 2}f}"


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Whether an open episode was restored, as a truth value, and the reason if it was not."""

    matched: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.matched


@runtime_checkable
class BatchEnvironment(Protocol):
    """N environments stepped together, one replay row each per call.

    The call after a row with `is_last` begins that environment's next episode: it ignores the action and yields a row
    with `is_first` and reward 0. The very first call begins all. `VectorEnvironment` holds single environments;
    `Pool` holds a back end that steps its environments itself.
    """

    observation_space: Spaces
    action_space: Spaces
    frames_per_step: int
    env_indices: list[int]
    """Numbers of the environments across the run."""
    episodes: list[int]
    """The open episode of each environment, counted from 0 by environment."""
    seeds: list[int]
    """The seed of each open episode; -1 where the back end takes none."""
    ended: np.ndarray
    """Environments whose next step begins an episode, bool `[N]`."""
    there: np.ndarray
    """Environments that have a row in the newest rows, bool `[N]`; all other values there mean nothing."""
    replaced: np.ndarray
    """Rows that are the first of an environment made again, bool `[N]`: nothing joins them to those before."""
    backend: str
    """The program that simulates, such as `dm_control`."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each open episode, int64 `[N]`."""

    @property
    def quarantined(self) -> int:
        """The number of environments that are not made again."""

    def step(self, actions: Mapping[str, np.ndarray] | None = None) -> Rows:
        """One row per environment: observation keys, reward, is_first, is_last, is_terminal, each `[N, ...]`.

        `actions` `[N, ...]` may be left out when every environment is about to begin an episode.
        """

    def finished(self) -> list[Episode]:
        """Episodes that ended since the last call of this."""

    def faults(self) -> list[EnvironmentFault]:
        """Failures of environments since the last call of this."""

    def restore(self, i: int, episode: int, rows: Mapping[str, np.ndarray]) -> Restored:
        """Bring environment `i` back into its open episode by its recorded rows, if the back end can. Otherwise the
        next `step` begins episode `episode + 1`, and the result says why."""

    def render(self, i: int) -> np.ndarray:
        """Render environment `i` for people: uint8 `[H W 3]`. Raises CannotDrawError if it cannot be rendered."""

    def close(self) -> None:
        """Free all environments; nothing is used afterwards. Raises nothing: errors become warnings."""
