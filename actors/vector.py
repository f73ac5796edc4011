"""Several environments stepped together, one replay row each per call; a broken one may be replaced."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from actors import closing
from actors.batch_environment import Episode, Restored, Rows, episode_seed
from actors.environment import Environment, Step
from actors.episode_metrics import EpisodeMetrics
from actors.faults import BrokenEnvironmentError, raised
from actors.repairs import CommonFailures, EnvironmentFault, Repaired, Repairs
from actors.row_stepping import DefersChecks, RowChecks
from actors.stepping import Answer, joined, put, stepping

FORGIVEN = 1000
"""Steps of an environment without a failure after which its earlier ones are forgotten, even if no episode ends."""
WAITING = 0.1  # seconds for an environment to be back if none is there


class VectorEnvironment:
    """A BatchEnvironment of single ones; those in processes of their own step at the same time.

    `env_indices` number the environments across the run, so that every one has seeds of its own: by default 0..N-1.

    A failure of an environment ends the step with BrokenEnvironmentError, unless `quarantine_after` is given: then that
    environment is closed and made again (see `Repairs`), and the others are not affected. It has no row until its first
    step after that, with `is_first`. An error is raised all the same if it is one of the task: see `CommonFailures`.
    """

    def __init__(
        self, makers: Sequence[Callable[[], Environment]], run_seed: int, env_indices: Sequence[int] | None = None,
        quarantine_after: int = 0,
    ) -> None:  # fmt: skip
        if not makers:
            raise ValueError("A vector environment needs at least one environment, got 0.")
        self.env_indices = list(env_indices) if env_indices is not None else list(range(len(makers)))
        if len(self.env_indices) != len(makers):
            raise ValueError(f"{len(makers)} environments but {len(self.env_indices)} indices; give one index each.")
        self.environments: list[Environment] = []
        self._repairs: Repairs | None = None
        try:
            for make in makers:
                self.environments.append(make())
        except BaseException:
            self.close()
            raise
        first = self.environments[0]
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.frames_per_step, self.backend = first.frames_per_step, first.backend
        self._apart = hasattr(first, "begin_step")
        if quarantine_after:
            self._repairs = Repairs(makers, quarantine_after, self._apart)
        self.run_seed = run_seed
        count = len(makers)
        self.episodes = [-1] * count  # number of the open episode, counted per environment from 0
        self.seeds = [0] * count
        self.scores = np.zeros(count)
        self.ended = np.ones(count, bool)  # the next call resets
        self.there = np.ones(count, bool)
        self.replaced = np.zeros(count, bool)
        # Steps of whatever was in each place, and how many of them were made before its open episode and before it.
        self._steps, self._begun, self._made = np.zeros((3, count), np.int64)
        self._uneven = False  # there or replaced say something else of some than of others
        self._everyone = list(range(count))
        self._common = CommonFailures(count)
        self._finished: list[Episode] = []
        self._metrics = EpisodeMetrics()
        self._faults: list[EnvironmentFault] = []
        nothing = {key: np.zeros(space.shape, space.dtype) for key, space in self.observation_space.items()}
        self._absent = Step(nothing, 0.0, False, False)
        defers = all(isinstance(one, DefersChecks) and one.defer_checks() for one in self.environments)
        self._checks = RowChecks(self.observation_space, count) if defers else None
        self._stepping = stepping(self.environments, self._apart)

    def __len__(self) -> int:
        return len(self.environments)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each open episode, int64 `[N]`."""
        return (self._steps - self._begun) * self.frames_per_step

    @property
    def quarantined(self) -> int:
        """The number of environments that are not made again."""
        return len(self._repairs.quarantined) if self._repairs else 0

    def step(self, actions: Mapping[str, np.ndarray] | None = None) -> Rows:
        """See BatchEnvironment. If no environment is there, it waits a tenth of a second for one."""
        first, repairs = self.ended.copy(), self._repairs
        away = repairs.away if repairs else ()
        which = [i for i in self._everyone if i not in away] if away else self._everyone
        begins = [i for i in first.nonzero()[0].tolist() if i not in away]
        assert actions is not None or len(begins) == len(which), (
            f"actions are needed: the episodes of {sorted({*which} - {*begins})} are open"
        )
        for i in begins:
            self._open(i, self.episodes[i] + 1)
        answer = self._stepping(actions, first, self.seeds, which)
        rows = answer.rows
        rows["is_first"] = first
        if self._uneven:
            self.there[:], self.replaced[:] = True, False
        for i in away:
            self.there[i] = False
        broken = [(i, self._named(i, first[i], error)) for i, error in answer.broken]
        for i, _ in broken:
            self.there[i] = False
        for i in self._checks.doubtful(rows) if self._checks else ():
            if self.there[i] and (unfit := self._unfit(i, first[i])):
                broken.append((i, unfit))
                self.there[i] = False
        self._uneven = bool(broken or away)
        if broken and repairs is None:
            raise broken[0][1]
        self._count(answer, first)
        if repairs is None or not self._uneven:
            return rows
        for i, fault in broken:
            self._replace(repairs, i, fault, self.environments[i])
            put(rows, i, self._absent)
        for repaired in repairs.returned(0.0 if self.there.any() else WAITING):
            if step := self._take(repairs, repaired):
                put(rows, repaired.i, step)
        return rows | {"is_first": first | ~self.there | self.replaced}

    def finished(self) -> list[Episode]:
        out, self._finished = self._finished, []
        return out

    def faults(self) -> list[EnvironmentFault]:
        out, self._faults = self._faults, []
        return out

    def _replace(self, repairs: Repairs, i: int, error: BrokenEnvironmentError, old: Environment | None) -> None:
        """Have environment i made again, for the episode after the one that it broke; raise an error of the task."""
        self._open(i, self.episodes[i] + 1)
        self._faults.append(repairs.failed(i, self.env_indices[i], error, old, self.seeds[i]))
        age, self._made[i] = int(self._steps[i] - self._made[i]), self._steps[i]
        if self._common.of_the_task(i, age, error.kind):
            raise error

    def _take(self, repairs: Repairs, repaired: Repaired) -> Step | None:
        """The first step of an environment that was made again; None: it has failed again."""
        i, environment = repaired.i, repaired.environment
        try:
            if repaired.error:
                raise self._named(i, True, repaired.error)
            assert environment is not None and repaired.first is not None, "neither an environment nor an error"
            if (environment.observation_space, environment.action_space) != (self.observation_space, self.action_space):
                where = f"environment {self.env_indices[i]}, made again"
                raise BrokenEnvironmentError("its spaces have changed", where, "Declare the same spaces every time.")
        except BrokenEnvironmentError as error:
            self._replace(repairs, i, error, environment)
            return None
        if self._checks:
            cast(DefersChecks, environment).defer_checks()
        repairs.away.remove(i)
        self._metrics.add(self.env_indices[i], repaired.first.infos)
        self.environments[i] = environment
        self._stepping = stepping(self.environments, self._apart)
        self.there[i] = self.replaced[i] = True
        return repaired.first

    def _open(self, i: int, episode: int) -> None:
        self.episodes[i] = episode
        self.seeds[i] = episode_seed(self.run_seed, self.env_indices[i], episode)
        self.scores[i], self._begun[i], self.ended[i] = 0.0, self._steps[i], False
        self._metrics.begin(self.env_indices[i])

    def _unfit(self, i: int, first: bool) -> BrokenEnvironmentError | None:
        """What is wrong with the newest observation of environment i, by its own check."""
        try:
            cast(DefersChecks, self.environments[i]).check_last()
        except Exception as error:
            return self._named(i, first, error)
        return None

    def _named(self, i: int, first: bool, error: Exception) -> BrokenEnvironmentError:
        """What environment i raised, as an error that names the place."""
        if isinstance(error, BrokenEnvironmentError):
            return error
        where = f"environment {self.env_indices[i]}, {'reset' if first else 'step'}() at frame {self.lengths[i]}"
        named = raised(error, f"{where} of the episode with seed {self.seeds[i]}")
        named.__cause__ = error
        return named

    def _count(self, answer: Answer, first: np.ndarray) -> None:
        """Count the steps of the environments that are there, and finish the episodes that ended."""
        if any(answer.infos):
            for i in self.there.nonzero()[0].tolist():
                self._metrics.add(self.env_indices[i], answer.infos[i])
        went = self.there > first
        self._steps += went
        self.scores += answer.rewards  # 0 where an episode begins or nothing is there
        if self._repairs and self._repairs.failing:
            for i in (went & (self._steps - self._made == FORGIVEN)).nonzero()[0].tolist():
                self._repairs.worked(i)
        last = answer.rows["is_last"]
        if np.count_nonzero(last):
            for i in (last & went).nonzero()[0].tolist():
                self._finish(i)

    def _finish(self, i: int) -> None:
        if self._repairs:
            self._repairs.worked(i)
        self.ended[i] = True
        self._finished.append(
            Episode(
                env_index=self.env_indices[i],
                episode=self.episodes[i],
                seed=self.seeds[i],
                score=float(self.scores[i]),
                length=int(self._steps[i] - self._begun[i]) * self.frames_per_step,
                metrics=self._metrics.end(self.env_indices[i]),
                notes=self._metrics.notes(),
                backend=self.backend,
            )
        )

    def restore(self, i: int, episode: int, rows: Mapping[str, np.ndarray]) -> Restored:
        """Bring environment `i` back into its open episode by its seed and its recorded rows.

        `rows` [T, ...] run from the row with is_first to the newest one, as written to replay. All actions but the last
        row's are applied again, and every observation, reward and flag is compared. The last action is left to the
        caller: it goes to the next `step`. On a mismatch the next `step` begins episode `episode + 1`.
        """
        self._open(i, episode)
        for t in range(len(rows["is_first"])):
            action = {key: rows[key][t - 1] for key in self.action_space} if t else None
            again = self._again(i, action) | {"is_first": np.array([t == 0])}
            if differing := [key for key, value in again.items() if not np.array_equal(value[0], rows[key][t])]:
                self.ended[i] = True
                who = f"environment {self.env_indices[i]}, episode {episode} (seed {self.seeds[i]})"
                where = f"{differing[0]!r} differs at step {t} of {len(rows['is_first'])}"
                reason = f"{who} did not repeat itself: {where}; a new episode begins."
                return Restored(matched=False, reason=reason)
        return Restored(matched=True)

    def _again(self, i: int, action: dict[str, np.ndarray] | None) -> Rows:
        """Reset environment `i`, or step it by an action; its rows `[1, ...]`."""
        environment = self.environments[i]
        try:
            step = environment.reset(self.seeds[i]) if action is None else environment.step(action)
        except Exception as error:
            raise self._named(i, action is None, error)  # noqa: B904 (it has its cause)
        self._metrics.add(self.env_indices[i], step.infos)
        if action is not None:
            self._steps[i] += 1
            self.scores[i] += step.reward
        if step.is_last and action is not None:
            self._finish(i)
        return joined(self.observation_space, [step])

    def render(self, i: int) -> np.ndarray:
        """Render environment `i` for people: uint8 `[H W 3]`. Raises CannotDrawError if it cannot be rendered."""
        return self.environments[i].render()

    def close(self) -> None:
        away = self._repairs.away if self._repairs else ()
        for i, environment in enumerate(self.environments):
            if i not in away:
                closing.close_anyway(environment, f"environment {self.env_indices[i]}")
        if self._repairs:
            self._repairs.close()
