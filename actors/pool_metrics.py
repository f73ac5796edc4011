"""Metrics of the episodes of a pool, from arrays over its environments; see `episode_metrics` for their names."""

from collections.abc import Mapping, Sequence

import numpy as np

from actors.episode_metrics import EpisodeMetrics, as_number


class PoolMetrics:
    """Keeps what N environments said last, and the aggregates of `log/KEY` over the steps of the open episodes."""

    def __init__(self, env_indices: Sequence[int]) -> None:
        self._indices = env_indices
        self._metrics = EpisodeMetrics()
        self._newest: Mapping[str, np.ndarray] = {}
        self._counts = np.zeros(len(env_indices), np.int64)
        self._largest: dict[str, np.ndarray] = {}
        self._sums: dict[str, np.ndarray] = {}

    def add(self, infos: Mapping[str, np.ndarray], first: np.ndarray) -> None:
        """What all environments say, `[N]` per name; a new episode begins in those that are `first`."""
        self._newest = infos
        self._counts = np.where(first, 1, self._counts + 1)
        for name, values in infos.items():
            if name.startswith("log/"):
                values = np.asarray(values, np.float64)
                sums, largest = self._sums.get(name, 0.0), self._largest.get(name, -np.inf)
                self._sums[name] = np.where(first, 0.0, sums) + values
                self._largest[name] = np.maximum(np.where(first, -np.inf, largest), values)

    def end(self, i: int) -> tuple[dict[str, float], tuple[str, ...]]:
        """The metrics of the episode of environment `i`, which has ended, and notes for the run's log."""
        if not self._newest:
            return {}, ()
        info = {name: as_number(values[i]) for name, values in self._newest.items() if name not in self._sums}
        for name, sums in self._sums.items():
            info[f"episode/{name}/avg"] = as_number(sums[i] / self._counts[i])
            info[f"episode/{name}/max"] = as_number(self._largest[name][i])
            info[f"episode/{name}/sum"] = as_number(sums[i])
        index = self._indices[i]
        self._metrics.begin(index)
        self._metrics.add(index, [info])
        return self._metrics.end(index), self._metrics.notes()
