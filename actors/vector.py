"""Several environments stepped one after the other in this process, one replay row each per call."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from actors.environment import Environment, Step
from actors.episode_metrics import EpisodeMetrics
from actors.faults import BrokenEnvironmentError, raised

Rows = dict[str, np.ndarray]


def episode_seed(run_seed: int, env_index: int, episode: int) -> int:
    """The seed of one episode, in [0, 2^31): the same on every machine, unrelated between neighbours."""
    digest = hashlib.sha256(f"{run_seed}/{env_index}/{episode}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A finished episode: `length` in frames, `env_index` across the whole run. `frames`: the run's frames at its end,
    as known to whoever passes it on. `metrics`: numbers from the environment's info, see `episode_metrics`; `notes`:
    lines about them for the run's log."""

    env_index: int
    episode: int
    seed: int
    score: float
    length: int
    frames: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Whether an open episode was restored, as a truth value, and the reason if it was not."""

    matched: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.matched


class VectorEnvironment:
    """Steps N environments with automatic resets.

    The call after a row with `is_last` resets that environment: it ignores the action and yields a row with `is_first`,
    reward 0. The very first call resets all. `env_indices` number the environments across the run, so that every one
    has seeds of its own: by default 0..N-1.
    """

    def __init__(
        self, makers: Sequence[Callable[[], Environment]], run_seed: int, env_indices: Sequence[int] | None = None
    ) -> None:
        if not makers:
            raise ValueError("A vector environment needs at least one environment, got 0.")
        self.env_indices = list(env_indices) if env_indices is not None else list(range(len(makers)))
        if len(self.env_indices) != len(makers):
            raise ValueError(f"{len(makers)} environments but {len(self.env_indices)} indices; give one index each.")
        self.environments: list[Environment] = []
        try:
            for make in makers:
                self.environments.append(make())
        except BaseException:
            self.close()
            raise
        first = self.environments[0]
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.frames_per_step = first.frames_per_step
        self.run_seed = run_seed
        count = len(makers)
        self.episodes = [-1] * count  # number of the open episode, counted per environment from 0
        self.seeds = [0] * count
        self.scores = np.zeros(count)
        self.lengths = np.zeros(count, np.int64)  # frames
        self.ended = np.ones(count, bool)  # the next call resets
        self._finished: list[Episode] = []
        self._metrics = EpisodeMetrics()

    def __len__(self) -> int:
        return len(self.environments)

    def step(self, actions: Mapping[str, np.ndarray] | None = None) -> Rows:
        """One row per environment: observation keys, reward, is_first, is_last, is_terminal, each [N, ...].

        `actions` [N, ...] may be left out when every environment is about to be reset.
        """
        assert actions is not None or self.ended.all(), "actions are needed: some episodes are open"
        first = self.ended.copy()
        steps: list[Step] = []
        for i in range(len(self.environments)):
            if first[i]:
                steps.append(self._reset(i, self.episodes[i] + 1))
            else:
                assert actions is not None
                steps.append(self._step(i, {key: value[i] for key, value in actions.items()}))
        rows = {
            key: np.stack([step.observation[key] for step in steps]).astype(space.dtype, copy=False)
            for key, space in self.observation_space.items()
        }
        rows["reward"] = np.asarray([step.reward for step in steps], np.float32)
        rows["is_first"] = first
        rows["is_last"] = np.asarray([step.is_last for step in steps], bool)
        rows["is_terminal"] = np.asarray([step.is_terminal for step in steps], bool)
        return rows

    def finished(self) -> list[Episode]:
        """Episodes that ended since the last call of this."""
        out, self._finished = self._finished, []
        return out

    def _reset(self, i: int, episode: int) -> Step:
        self.episodes[i] = episode
        self.seeds[i] = episode_seed(self.run_seed, self.env_indices[i], episode)
        self.scores[i], self.lengths[i], self.ended[i] = 0.0, 0, False
        with self._named(i, "reset"):
            step = self.environments[i].reset(self.seeds[i])
        self._metrics.begin(self.env_indices[i])
        self._metrics.add(self.env_indices[i], step.infos)
        return step

    def _step(self, i: int, action: dict[str, np.ndarray]) -> Step:
        with self._named(i, "step"):
            step = self.environments[i].step(action)
        self.scores[i] += step.reward
        self.lengths[i] += self.frames_per_step
        if step.infos:
            self._metrics.add(self.env_indices[i], step.infos)
        if step.is_last:
            self.ended[i] = True
            self._finished.append(
                Episode(
                    env_index=self.env_indices[i],
                    episode=self.episodes[i],
                    seed=self.seeds[i],
                    score=float(self.scores[i]),
                    length=int(self.lengths[i]),
                    metrics=self._metrics.end(self.env_indices[i]),
                    notes=self._metrics.notes(),
                )
            )
        return step

    @contextmanager
    def _named(self, i: int, call: str) -> Iterator[None]:
        """Turn what the environment raises into a BrokenEnvironmentError that names the place."""
        try:
            yield
        except BrokenEnvironmentError:
            raise
        except Exception as error:
            where = f"environment {self.env_indices[i]}, {call}() at frame {self.lengths[i]} of the episode with seed"
            raise raised(error, f"{where} {self.seeds[i]}") from error

    def restore(self, i: int, episode: int, rows: Mapping[str, np.ndarray]) -> Restored:
        """Bring environment `i` back into its open episode by its seed and its recorded rows.

        `rows` [T, ...] run from the row with is_first to the newest one, as written to replay. All actions but the last
        row's are applied again, and every observation, reward and flag is compared. The last action is left to the
        caller: it goes to the next `step`. On a mismatch the next `step` begins episode `episode + 1`.
        """
        step = self._reset(i, episode)
        length = len(rows["is_first"])
        for t in range(length):
            if t:
                step = self._step(i, {key: rows[key][t - 1] for key in self.action_space})
            if difference := self._difference(step, rows, t):
                self.ended[i] = True
                who = f"environment {self.env_indices[i]}, episode {episode} (seed {self.seeds[i]})"
                reason = f"{who} did not repeat itself: {difference}; a new episode begins."
                return Restored(matched=False, reason=reason)
        return Restored(matched=True)

    def _difference(self, step: Step, rows: Mapping[str, np.ndarray], t: int) -> str:
        new = dict(step.observation) | {
            "reward": np.float32(step.reward),
            "is_first": np.bool_(t == 0),
            "is_last": np.bool_(step.is_last),
            "is_terminal": np.bool_(step.is_terminal),
        }
        for key, value in new.items():
            if not np.array_equal(value, rows[key][t]):
                return f"{key!r} differs at step {t} of {len(rows['is_first'])}"
        return ""

    def close(self) -> None:
        for environment in self.environments:
            environment.close()
