"""Environment wrappers: action scaling, time limit, frame stack. Adapters repeat actions themselves, since they need
not render, convert or check the frames in between.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from actors.environment import Environment, Step
from actors.native_actions import Scale, bounds
from actors.row_stepping import DefersChecks, RowStepping, StepsByRows
from replay.counted import counted
from world_models.space import Space


def step_limit(environment: Environment) -> int:
    """Steps after which a time limit cuts an episode; 0: the environment has none, or does not say so."""
    return int(getattr(environment, "step_limit", 0))


class Wrapper:
    """Passes everything through; the base class of the others."""

    def __init__(self, inner: Environment) -> None:
        self.inner = inner
        self.observation_space = inner.observation_space
        self.action_space = inner.action_space
        self.frames_per_step = inner.frames_per_step
        self.backend = inner.backend
        self.step_limit = step_limit(inner)

    def reset(self, seed: int) -> Step:
        return self.inner.reset(seed)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        return self.inner.step(action)

    def defer_checks(self) -> bool:
        return isinstance(self.inner, DefersChecks) and self.inner.defer_checks()

    def check_last(self) -> None:
        assert isinstance(self.inner, DefersChecks), "only one that defers its checks is asked for them"
        self.inner.check_last()

    def render(self) -> np.ndarray:
        return self.inner.render()

    def close(self) -> None:
        self.inner.close()


def normalized(space: Space) -> Space:
    """An action space as the agent sees it: continuous actions in [-1, 1], their own bounds in `native`."""
    if space.discrete:
        return space
    low, high = bounds(space)
    bounded = np.isfinite(low) & np.isfinite(high)
    return replace(
        space,
        low=np.where(bounded, -1, low).astype(np.float32),
        high=np.where(bounded, 1, high).astype(np.float32),
        native={"low": low.tolist(), "high": high.tolist()} | dict(space.native or {}),
    )


class NormalizeActions(Wrapper):
    """Clips continuous actions to [-1, 1] and rescales them to the inner environment's bounds.

    A dimension that lacks a lower or upper bound is not scaled, only clipped to the bound it has.
    """

    def __init__(self, inner: Environment) -> None:
        super().__init__(inner)
        self.action_space = {key: normalized(space) for key, space in inner.action_space.items()}
        self._scales = {k: Scale(*bounds(space)) for k, space in inner.action_space.items() if not space.discrete}

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if self._scales:
            action = action | self._scaled(action)
        return self.inner.step(action)

    def row_stepping(self) -> RowStepping | None:
        """See StepsByRows."""
        own = self.inner.row_stepping() if isinstance(self.inner, StepsByRows) else None
        if own is None or not self._scales:
            return own
        native = own.native
        return own._replace(native=lambda actions: native({**actions, **self._scaled(actions)}))

    def _scaled(self, actions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {key: scale(actions[key]) for key, scale in self._scales.items()}


class TimeLimit(Wrapper):
    """Truncates episodes after a number of frames."""

    def __init__(self, inner: Environment, frames: int) -> None:
        super().__init__(inner)
        self._limit = frames
        self._frames = 0
        self.step_limit = min(filter(None, (self.step_limit, -(-frames // self.frames_per_step))))

    def reset(self, seed: int) -> Step:
        self._frames = 0
        return self.inner.reset(seed)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if self._frames >= self._limit:
            raise ValueError(
                f"step() after the time limit of {counted(self._limit, 'frame')} ended the episode; call reset(seed) "
                "first."
            )
        step = self.inner.step(action)
        self._frames += self.frames_per_step
        return step._replace(is_last=step.is_last or self._frames >= self._limit)


def stacked(space: Space, count: int) -> Space:
    """The space of `count` images of `space`, joined along the channels."""
    native = {"shape": list(space.shape), **(space.native or {}), "stack": count}
    return replace(space, shape=(*space.shape[:2], space.shape[2] * count), native=native)


class FrameStack(Wrapper):
    """Joins the last `count` images along the channels, oldest first: [H W C] -> [H W count*C]. Vectors are kept."""

    def __init__(self, inner: Environment, count: int) -> None:
        super().__init__(inner)
        self._count = count
        self._images = [key for key, space in inner.observation_space.items() if space.is_image]
        self.observation_space = dict(inner.observation_space)
        for key in self._images:
            self.observation_space[key] = stacked(inner.observation_space[key], count)
        self._frames: dict[str, list[np.ndarray]] = {}

    def reset(self, seed: int) -> Step:
        step = self.inner.reset(seed)
        self._frames = {key: [step.observation[key]] * self._count for key in self._images}
        return self._stacked(step)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        step = self.inner.step(action)
        for key, frames in self._frames.items():
            self._frames[key] = [*frames[1:], step.observation[key]]
        return self._stacked(step)

    def _stacked(self, step: Step) -> Step:
        images = {key: np.concatenate(frames, axis=-1) for key, frames in self._frames.items()}
        return step._replace(observation=step.observation | images)
