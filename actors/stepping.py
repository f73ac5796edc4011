"""How a vector steps its environments: those in processes of their own at the same time, others one after the other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from actors.batch_environment import Rows
from actors.environment import Environment, Step
from actors.episode_metrics import Info
from actors.faults import cannot_exit, exited
from actors.row_stepping import Outcome, RowStepping, StepsByRows
from world_models.space import Spaces


class StepsApart(Environment, Protocol):
    """An Environment that goes on with what it was told while others are told."""

    def begin_reset(self, seed: int) -> None: ...

    def begin_step(self, action: dict[str, np.ndarray]) -> None: ...

    def finish(self) -> Step: ...


class Answer(NamedTuple):
    """What N environments answered. Those that are `broken`, and those that were not stepped, have a row of zeros."""

    rows: Rows
    """All keys but is_first."""
    rewards: np.ndarray
    """float64 `[N]`."""
    infos: Sequence[Sequence[Info]]
    broken: list[tuple[int, Exception]]


class Stepping(Protocol):
    """Steps a vector's environments."""

    def __call__(
        self, actions: Mapping[str, np.ndarray] | None, first: np.ndarray, seeds: Sequence[int], which: Sequence[int]
    ) -> Answer:
        """Step the environments `which`: those that are `first`, bool `[N]`, begin the episodes of `seeds`, the others
        take their row of `actions` `[N, ...]`."""


def stepping(environments: Sequence[Environment], apart: bool) -> Stepping:
    """The fastest way for these environments, whose checks are deferred if they can be."""
    if apart:
        return Apart(environments)
    if all(isinstance(one, StepsByRows) for one in environments):
        ways = [cast(StepsByRows, one).row_stepping() for one in environments]
        if (one := ways[0]) and all(way and way[:3] == one[:3] for way in ways):
            return ByRows(environments, [way.into for way in ways if way], one)
    return InTurn(environments)


class InTurn:
    """Steps any environments one after the other."""

    def __init__(self, environments: Sequence[Environment]) -> None:
        self._environments = environments
        self._spaces = environments[0].observation_space
        nothing = {key: np.zeros(space.shape, space.dtype) for key, space in self._spaces.items()}
        self._absent = Step(nothing, 0.0, False, False)

    def __call__(
        self, actions: Mapping[str, np.ndarray] | None, first: np.ndarray, seeds: Sequence[int], which: Sequence[int]
    ) -> Answer:
        steps, broken = [self._absent] * len(first), list[tuple[int, Exception]]()
        for i in which:
            try:
                steps[i] = self._environments[i].reset(seeds[i]) if first[i] else self._step(i, actions)
            except Exception as error:
                broken.append((i, error))
        return self._answer(steps, broken)

    def _step(self, i: int, actions: Mapping[str, np.ndarray] | None) -> Step:
        assert actions is not None, f"the episode of environment {i} is open"
        return self._environments[i].step({key: value[i] for key, value in actions.items()})

    def _answer(self, steps: Sequence[Step], broken: list[tuple[int, Exception]]) -> Answer:
        rewards = np.array([step.reward for step in steps], np.float64)
        return Answer(joined(self._spaces, steps), rewards, [step.infos for step in steps], broken)


class Apart(InTurn):
    """Steps environments in processes of their own at the same time."""

    def __call__(
        self, actions: Mapping[str, np.ndarray] | None, first: np.ndarray, seeds: Sequence[int], which: Sequence[int]
    ) -> Answer:
        steps, broken = [self._absent] * len(first), list[tuple[int, Exception]]()
        for i in which:
            one = cast(StepsApart, self._environments[i])
            if first[i]:
                one.begin_reset(seeds[i])
            else:
                assert actions is not None, f"the episode of environment {i} is open"
                one.begin_step({key: value[i] for key, value in actions.items()})
        for i in which:
            try:
                steps[i] = cast(StepsApart, self._environments[i]).finish()
            except Exception as error:
                broken.append((i, error))
        return self._answer(steps, broken)


class ByRows:
    """Steps environments one after the other, straight into arrays: for simulations that take microseconds."""

    def __init__(
        self, environments: Sequence[Environment], into: Sequence[Callable[[np.ndarray], Callable[[Any], Outcome]]],
        alike: RowStepping,
    ) -> None:  # fmt: skip
        self._environments, self._alike = environments, alike
        self._space = environments[0].observation_space[alike.key]
        self._observations = np.zeros((len(environments), *alike.shape), alike.dtype)  # the newest
        self._steps = [one(self._observations[i, ...]) for i, one in enumerate(into)]

    def __call__(
        self, actions: Mapping[str, np.ndarray] | None, first: np.ndarray, seeds: Sequence[int], which: Sequence[int]
    ) -> Answer:
        key, _, _, native, _ = self._alike
        count, space, newest = len(first), self._space, self._observations
        broken: list[tuple[int, Exception]] = []
        outcomes: list[Outcome] = [(0.0, False, False, ())] * count
        begins, steps = first.tolist(), self._steps
        own = native(actions) if actions is not None else ()
        with cannot_exit():
            for i in which:
                try:
                    if begins[i]:
                        outcomes[i] = self._begin(i, seeds[i])
                    else:
                        outcomes[i] = steps[i](own[i])
                except Exception as error:
                    broken.append((i, error))
                except SystemExit as error:
                    broken.append((i, exited(error)))
        if broken or len(which) < count:
            newest[[i for i in range(count) if i not in which], ...] = 0
            newest[[i for i, _ in broken], ...] = 0
        rewards, last, terminal, infos = zip(*outcomes, strict=True)
        array = np.array(rewards, np.float64)
        if newest.dtype == space.dtype:
            observations = newest.copy()
        else:
            with np.errstate(over="ignore"):  # an infinite value is doubtful
                observations = newest.astype(space.dtype)
        if observations.shape[1:] != space.shape:
            observations = observations.reshape(-1, *space.shape)
        rows = {
            key: observations,
            "reward": array.astype(np.float32),
            "is_last": np.array(last, bool) if any(last) else np.zeros(count, bool),
            "is_terminal": np.array(terminal, bool) if any(terminal) else np.zeros(count, bool),
        }
        return Answer(rows, array, infos, broken)

    def _begin(self, i: int, seed: int) -> Outcome:
        observation, reward, last, terminal, infos = self._environments[i].reset(seed)
        self._observations[i] = observation[self._alike.key].reshape(self._alike.shape)
        return reward, last, terminal, infos


def joined(spaces: Spaces, steps: Sequence[Step]) -> Rows:
    """The steps of N environments as rows `[N, ...]`, without is_first."""
    with np.errstate(over="ignore"):  # an infinite value is doubtful
        rows = {
            key: np.array([step.observation[key] for step in steps], space.dtype).reshape(-1, *space.shape)
            for key, space in spaces.items()
        }
    rows["reward"] = np.array([step.reward for step in steps], np.float32)
    rows["is_last"] = np.array([step.is_last for step in steps], bool)
    rows["is_terminal"] = np.array([step.is_terminal for step in steps], bool)
    return rows


def put(rows: Rows, i: int, step: Step) -> None:
    """Give environment i the row of another step."""
    for key, value in step.observation.items():
        rows[key][i] = value.reshape(rows[key].shape[1:])
    rows["reward"][i], rows["is_last"][i], rows["is_terminal"][i] = step.reward, step.is_last, step.is_terminal
