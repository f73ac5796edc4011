"""Several environments stepped together, one replay row each per call; a broken one may be replaced."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from actors import closing
from actors.batch_environment import Episode, Restored, Rows, episode_seed
from actors.environment import Environment, Step
from actors.episode_metrics import EpisodeMetrics
from actors.faults import BrokenEnvironmentError, raised
from actors.repairs import CommonFailures, EnvironmentFault, Repaired, Repairs
from actors.row_checks import DefersChecks, RowChecks

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
        self.lengths = np.zeros(count, np.int64)  # frames
        self.ended = np.ones(count, bool)  # the next call resets
        self.there = np.ones(count, bool)
        self.replaced = np.zeros(count, bool)
        self._ages = [0] * count  # steps since each was made
        self._common = CommonFailures(count)
        self._finished: list[Episode] = []
        self._metrics = EpisodeMetrics()
        self._faults: list[EnvironmentFault] = []
        nothing = {key: np.zeros(space.shape, space.dtype) for key, space in self.observation_space.items()}
        self._absent = Step(nothing, 0.0, False, False)
        defers = all(isinstance(one, DefersChecks) and one.defer_checks() for one in self.environments)
        self._checks = RowChecks(self.observation_space) if defers else None

    def __len__(self) -> int:
        return len(self.environments)

    @property
    def quarantined(self) -> int:
        """The number of environments that are not made again."""
        return len(self._repairs.quarantined) if self._repairs else 0

    def step(self, actions: Mapping[str, np.ndarray] | None = None) -> Rows:
        """See BatchEnvironment. If no environment is there, it waits a tenth of a second for one."""
        first = self.ended.copy()
        away = self._repairs.away if self._repairs else ()
        open_ones = [i for i in np.flatnonzero(~first) if i not in away]
        assert actions is not None or not open_ones, f"actions are needed: the episodes of {open_ones} are open"
        begun = [
            (i, self._begin(i, None if first[i] or actions is None else {k: v[i] for k, v in actions.items()}))
            for i in range(len(self)) if i not in away
        ]  # fmt: skip
        steps, broken = [self._absent] * len(self), list[tuple[int, BrokenEnvironmentError]]()
        self.there[:] = self.replaced[:] = False
        for i, result in begun:
            try:
                steps[i] = self._result(i, result, first[i])
                self.there[i] = True
            except BrokenEnvironmentError as error:
                broken.append((i, error))
        rows = self._rows(steps, first)
        for i in self._checks.doubtful(rows) if self._checks else ():
            if self.there[i] and (unfit := self._unfit(i, first[i])):
                broken.append((i, unfit))
                self.there[i] = False
        if broken and self._repairs is None:
            raise broken[0][1]
        for i in np.flatnonzero(self.there).tolist():
            self._count(i, steps[i], first[i])
        if self._repairs is None or not (broken or away):
            return rows
        for i, fault in broken:
            self._replace(self._repairs, i, fault, self.environments[i])
            steps[i] = self._absent
        for repaired in self._repairs.returned(0.0 if self.there.any() else WAITING):
            if step := self._take(self._repairs, repaired):
                steps[repaired.i] = step
        return self._rows(steps, first | ~self.there | self.replaced)

    def _rows(self, steps: Sequence[Step], first: np.ndarray) -> Rows:
        with np.errstate(over="ignore"):  # an infinite value is doubtful
            rows = {
                key: np.array([step.observation[key] for step in steps], space.dtype).reshape(-1, *space.shape)
                for key, space in self.observation_space.items()
            }
        rows["reward"] = np.array([step.reward for step in steps], np.float32)
        rows["is_first"] = first
        rows["is_last"] = np.array([step.is_last for step in steps], bool)
        rows["is_terminal"] = np.array([step.is_terminal for step in steps], bool)
        return rows

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
        age, self._ages[i] = self._ages[i], 0
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
            environment.defer_checks()  # type: ignore[attr-defined]
        repairs.away.remove(i)
        self._metrics.add(self.env_indices[i], repaired.first.infos)
        self.environments[i] = environment
        self.there[i] = self.replaced[i] = True
        return repaired.first

    def _open(self, i: int, episode: int) -> None:
        self.episodes[i] = episode
        self.seeds[i] = episode_seed(self.run_seed, self.env_indices[i], episode)
        self.scores[i], self.lengths[i], self.ended[i] = 0.0, 0, False
        self._metrics.begin(self.env_indices[i])

    def _begin(self, i: int, action: dict[str, np.ndarray] | None) -> Callable[[], Step]:
        """Begin a step, or without an action the next episode; the result is what it returns."""
        environment = self.environments[i]
        if action is None:
            self._open(i, self.episodes[i] + 1)
            if self._apart:
                environment.begin_reset(self.seeds[i])  # type: ignore[attr-defined]
                return environment.finish  # type: ignore[attr-defined]
            return partial(environment.reset, self.seeds[i])
        if self._apart:
            environment.begin_step(action)  # type: ignore[attr-defined]
            return environment.finish  # type: ignore[attr-defined]
        return partial(environment.step, action)

    def _result(self, i: int, result: Callable[[], Step], first: bool) -> Step:
        try:
            return result()
        except Exception as error:
            raise self._named(i, first, error)  # noqa: B904 (it has its cause)

    def _unfit(self, i: int, first: bool) -> BrokenEnvironmentError | None:
        """What is wrong with the newest observation of environment i, by its own check."""
        try:
            self.environments[i].check_last()  # type: ignore[attr-defined]
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

    def _count(self, i: int, step: Step, first: bool) -> None:
        if step.infos:
            self._metrics.add(self.env_indices[i], step.infos)
        if first:
            return
        self._ages[i] += 1
        self.scores[i] += step.reward
        self.lengths[i] += self.frames_per_step
        if self._repairs and (step.is_last or self._ages[i] == FORGIVEN):
            self._repairs.worked(i)
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
        step = self._result(i, partial(self.environments[i].reset, self.seeds[i]), True)
        self._count(i, step, True)
        for t in range(len(rows["is_first"])):
            if t:
                action = {key: rows[key][t - 1] for key in self.action_space}
                step = self._result(i, self._begin(i, action), False)
                self._count(i, step, False)
            again = self._rows([step], np.array([t == 0]))
            if differing := [key for key, value in again.items() if not np.array_equal(value[0], rows[key][t])]:
                self.ended[i] = True
                who = f"environment {self.env_indices[i]}, episode {episode} (seed {self.seeds[i]})"
                where = f"{differing[0]!r} differs at step {t} of {len(rows['is_first'])}"
                reason = f"{who} did not repeat itself: {where}; a new episode begins."
                return Restored(matched=False, reason=reason)
        return Restored(matched=True)

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
