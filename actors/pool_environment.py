"""A pool as a BatchEnvironment: rows, episodes, scores and checks, with no Python call for each environment."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from actors import closing
from actors.batch_environment import Episode, Restored, Rows, episode_seed
from actors.faults import LARGEST, BrokenEnvironmentError, raised
from actors.pool import Pool, PoolStep
from actors.pool_metrics import PoolMetrics
from actors.repairs import FIRST_PAUSE, FIRST_STEPS, LONGEST_PAUSE, EnvironmentFault
from actors.vector import FORGIVEN, WAITING


class PoolEnvironment:
    """A BatchEnvironment over a pool, made by `make`.

    The pool gets one seed per environment, that of the episode which it begins first: the later ones follow from it
    and from the actions, so that no seed alone determines one of them, and `seeds` are -1 from then on. For the same
    reason an open episode cannot be restored; the next one gets a seed again.

    What the pool raises, and an answer that is not finite, ends the step with BrokenEnvironmentError, unless
    `quarantine_after` is given: then the pool is closed and made again, which counts as one failure, and every
    environment begins its next episode with a row that is `replaced`. Pauses between failures in a row and the number
    after which all environments are given up are those of `Repairs`. An error is raised all the same if the pool, made
    again, fails in the same way after as many steps.
    """

    def __init__(
        self, make: Callable[[], Pool], run_seed: int, env_indices: Sequence[int], quarantine_after: int = 0,
        check: bool = True,
    ) -> None:  # fmt: skip
        self._make, self._check, self._quarantine_after = make, check, quarantine_after
        self._pool: Pool | None = (pool := make())
        self.env_indices = list(env_indices)
        self.observation_space, self.action_space = pool.observation_space, pool.action_space
        self.frames_per_step, self.backend = pool.frames_per_step, pool.backend
        count = len(pool)
        if len(self.env_indices) != count:
            closing.close_anyway(pool, "a pool")
            raise ValueError(f"{count} environments but {len(self.env_indices)} indices; give one index each.")
        self.run_seed = run_seed
        self.episodes = [-1] * count
        self.seeds = [-1] * count
        self.scores = np.zeros(count)
        self.lengths = np.zeros(count, np.int64)
        self._frames = np.full(count, pool.frames_per_step)  # of a step; to add an array is faster
        self.ended = np.ones(count, bool)
        self.there = np.ones(count, bool)
        self.replaced = np.zeros(count, bool)
        self._steps = -1  # of this pool; -1: it has not begun
        self._failures = 0  # in a row
        self._last_failure = (-1, "")  # steps of the pool, and the kind
        self._due = 0.0  # when to make it again
        self._floats = [key for key, space in self.observation_space.items() if space.dtype == np.float32]
        self._metrics = PoolMetrics(self.env_indices)
        self._finished: list[Episode] = []
        self._faults: list[EnvironmentFault] = []

    def __len__(self) -> int:
        return len(self.env_indices)

    @property
    def quarantined(self) -> int:
        return len(self) if self._quarantine_after and self._failures >= self._quarantine_after else 0

    def step(self, actions: Mapping[str, np.ndarray] | None = None) -> Rows:
        """See BatchEnvironment. While the pool waits to be made again no environment is there, and the call takes a
        tenth of a second."""
        first, begins = self.ended, self._steps < 0
        if actions is None:
            assert first.all(), f"actions are needed: the episodes of {np.flatnonzero(~first)} are open"
            actions = {key: np.zeros((len(self), *s.shape), s.dtype) for key, s in self.action_space.items()}
        if self._failures:
            self.there, self.replaced = np.ones(len(self), bool), np.full(len(self), begins)
        answer = self._answer(actions, first)
        if answer is None:
            return self._absent()
        reward, last = answer.reward.astype(np.float32, copy=False), answer.is_last
        self.lengths += self._frames
        if np.count_nonzero(first):
            self.lengths[first] = 0
            self.scores[first] = 0
        self.scores += reward
        self.ended = last
        if answer.infos:
            self._metrics.add(answer.infos, first)
        if np.count_nonzero(last):
            self._finish(last)
        elif self._failures and self._steps == FORGIVEN:
            self._failures = 0
        flags = {"reward": reward, "is_first": first, "is_last": last, "is_terminal": answer.is_terminal}
        return answer.observation | flags

    def finished(self) -> list[Episode]:
        out, self._finished = self._finished, []
        return out

    def faults(self) -> list[EnvironmentFault]:
        out, self._faults = self._faults, []
        return out

    def restore(self, i: int, episode: int, rows: Mapping[str, np.ndarray]) -> Restored:
        """Not possible: the first `step`, which must not have been made, begins episode `episode + 1`."""
        assert self._steps < 0, "restore() after the first step"
        self.episodes[i] = episode
        reason = f"{self.backend} cannot restore the episodes that were open; new ones begin in their place."
        return Restored(matched=False, reason=reason)

    def render(self, i: int) -> np.ndarray:
        assert self._pool is not None, "the pool is being made again"
        return self._pool.render(i)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            closing.close_anyway(pool, self._name)

    @property
    def _name(self) -> str:
        return f"{self.backend}'s environments {self.env_indices[0]} to {self.env_indices[-1]}"

    def _answer(self, actions: Mapping[str, np.ndarray], first: np.ndarray) -> PoolStep | None:
        """What the pool says, checked; None: there is no pool now."""
        if self._pool is None:
            pause = WAITING if self.quarantined else min(WAITING, self._due - time.monotonic())
            if pause > 0:
                time.sleep(pause)
                return None
        try:
            if self._pool is None:
                self._pool = self._make()
            self._steps += 1
            if self._steps == 0:
                self._begin()
                answer = self._pool.reset(self.seeds)
            else:
                for i in first.nonzero()[0].tolist():
                    self.episodes[i] += 1
                    self.seeds[i] = -1
                answer = self._pool.step(actions, first)
            answer.reward[first] = 0  # what envpool gives with a reset is whatever was in that memory
            if self._check:
                self._require_finite(answer)
            return answer
        except Exception as error:
            where = f"{self._name}, {f'step() number {self._steps}' if self._steps > 0 else 'reset()'}"
            broken = error if isinstance(error, BrokenEnvironmentError) else raised(error, where)
            if not self._quarantine_after:
                raise broken from error
            self._failed(broken)
            return None

    def _begin(self) -> None:
        """Open the next episode of every environment, by a seed."""
        self.episodes = [episode + 1 for episode in self.episodes]
        self.seeds = [
            episode_seed(self.run_seed, index, episode)
            for index, episode in zip(self.env_indices, self.episodes, strict=True)
        ]

    def _require_finite(self, answer: PoolStep) -> None:
        # Counting is the fastest way to ask for all.
        reward = answer.reward
        fine = np.isfinite(reward) if reward.dtype == np.float32 else np.abs(reward) <= LARGEST  # false for NaN
        if np.count_nonzero(fine) < fine.size:
            raise self._not_finite(fine, "the reward")
        for key in self._floats:
            fine = np.isfinite(answer.observation[key])
            if np.count_nonzero(fine) < fine.size:
                raise self._not_finite(fine.reshape(len(self), -1).all(1), f"observation {key!r}")

    def _not_finite(self, fine: np.ndarray, what: str) -> BrokenEnvironmentError:
        i = int(np.argmin(fine))
        call = f"step() number {self._steps}" if self._steps else "reset()"
        where = f"environment {self.env_indices[i]}, {call} of {self.backend} (episode {self.episodes[i]}), {what}"
        return BrokenEnvironmentError("not finite in float32", where, "The simulation diverged.", "non_finite")

    def _failed(self, error: BrokenEnvironmentError) -> None:
        """Have the pool made again, for the episodes after those that are lost; raise an error of the task."""
        self.close()
        failure, self._last_failure = self._last_failure, (self._steps, error.kind)
        self._steps, self.ended = -1, np.ones(len(self), bool)
        self._failures += 1
        pause = 0.0 if self._failures == 1 else min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failures - 2))
        self._due = time.monotonic() + pause
        text = f"{error}\n{error.details or ''.join(traceback.format_exception(error))}".rstrip()
        for index in self.env_indices if self.quarantined else self.env_indices[:1]:
            given_up = self.quarantined > 0
            self._faults.append(EnvironmentFault(env_index=index, kind=error.kind, text=text, quarantined=given_up))
        if failure == self._last_failure and 0 <= failure[0] <= FIRST_STEPS:
            raise error

    def _absent(self) -> Rows:
        """Rows of no environment."""
        count = len(self)
        self.there, self.replaced = np.zeros(count, bool), np.zeros(count, bool)
        rows = {key: np.zeros((count, *s.shape), s.dtype) for key, s in self.observation_space.items()}
        rows |= {"reward": np.zeros(count, np.float32), "is_first": np.ones(count, bool)}
        return rows | {flag: np.zeros(count, bool) for flag in ("is_last", "is_terminal")}

    def _finish(self, last: np.ndarray) -> None:
        self._failures = 0
        for i in last.nonzero()[0].tolist():
            metrics, notes = self._metrics.end(i)
            self._finished.append(
                Episode(
                    env_index=self.env_indices[i],
                    episode=self.episodes[i],
                    seed=self.seeds[i],
                    score=float(self.scores[i]),
                    length=int(self.lengths[i]),
                    metrics=metrics,
                    notes=notes,
                    backend=self.backend,
                )
            )
