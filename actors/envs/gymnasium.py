"""Any Gymnasium environment: `gym:CartPole-v1`, or `gym:my_module:MyEnv-v0`, registered by importing my_module."""

import math
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from actors.closing import close_outside
from actors.config import EnvironmentConfig
from actors.environment import CannotDrawError, Step
from actors.envs import gymnasium_spaces, rendering
from actors.envs.box2d import repaired
from actors.envs.gymnasium_making import make_raw, task_names
from actors.envs.gymnasium_spaces import Leaf, Plain
from actors.episode_metrics import Info, read_info
from actors.faults import (
    LARGEST,
    BrokenEnvironmentError,
    call_outside,
    described,
    place_of,
    require_flag,
    require_reward,
)
from actors.row_stepping import Outcome, RowStepping
from replay.counted import counted
from world_models.space import Spaces

# Frames are read back, never displayed; without this, SDL looks for a display and complains.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

__all__ = ["GymnasiumEnvironment", "make", "task_names"]
_FIVE = "Return observation, reward, terminated, truncated, info."


def make(task: str, config: EnvironmentConfig) -> "GymnasiumEnvironment":
    """The environment `gym:ID` or `gym:MODULE:ID`. Raises ValueError if it does not exist or cannot be made."""
    raw = make_raw(task)
    if "minigrid" in sys.modules:
        from actors.envs.minigrid_observations import adapted

        raw = adapted(raw, config)
    if "gymnasium.envs.box2d" in sys.modules:
        raw = repaired(raw)
    return GymnasiumEnvironment(raw, task, config)


class GymnasiumEnvironment:
    """A Gymnasium environment as an Environment, but with the raw bounds of its actions (see NormalizeActions)."""

    backend = "gymnasium"

    def __init__(self, environment: gymnasium.Env, task: str, config: EnvironmentConfig) -> None:
        self.raw = environment
        self.frames_per_step = config.action_repeat
        self.step_limit = -(-_frame_limit(environment) // config.action_repeat)
        self._task = task
        self._check = config.check_steps
        self._observations = gymnasium_spaces.flatten(
            environment.observation_space, actions=False, image_size=config.image_size
        )
        self._actions = gymnasium_spaces.flatten(environment.action_space, actions=True, image_size=config.image_size)
        self.observation_space = _keys(self._observations)
        if _keys(self._actions).keys() & self.observation_space.keys():  # e.g. two Tuples: both count
            self._actions = [_prefixed(leaf) for leaf in self._actions]
        self.action_space = _keys(self._actions)
        self._decode = gymnasium_spaces.decoder(environment.action_space, self._actions)
        self._plain: Plain | None = None
        self._raw_observation: Any = None
        self._places = {name: _place(environment, name) for name in ("reset", "step", "render")}
        self._open = False
        self._seed = self._steps = 0

    def reset(self, seed: int) -> Step:
        self._seed, self._steps = seed, 0
        try:
            answer = call_outside(lambda: self.raw.reset(seed=seed))
        except TypeError as error:
            if not re.search(r"reset\(\) got an unexpected keyword argument '(seed|options)'", str(error)):
                raise
            raise self._broken("reset", str(error), "Write def reset(self, *, seed=None, options=None).") from error
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise self._broken("reset", _given(answer), "Return observation, info.")
        info = read_info(answer[1])
        step = Step(self._encode(answer[0], "reset"), 0.0, False, False, [info] if info else ())
        self._open = True
        return step

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if not self._open:
            raise self._not_open()
        step = call_outside(lambda: self._step(action))
        self._open = not step.is_last
        return step

    def _not_open(self) -> ValueError:
        return ValueError(f"{self._task}: step() without an open episode; call reset(seed) first.")

    def _step(self, action: dict[str, np.ndarray]) -> Step:
        raw_action = self._decode(action)
        total, terminated, truncated, observation = 0.0, False, False, None
        infos: list[Info] = []
        self._steps += 1
        for _ in range(self.frames_per_step):
            observation, reward, ended, cut, info = self._raw_step(raw_action)
            if numbers := read_info(info):
                infos.append(numbers)
            if not self._check or isinstance(reward, float) and -LARGEST <= reward <= LARGEST:
                total += float(reward)
            else:
                total += require_reward(reward, self._where("step", "reward"))
            terminated, truncated = self._flag(ended, "terminated"), self._flag(cut, "truncated")
            if terminated or truncated:
                break
        if self._check and self.frames_per_step > 1:
            require_reward(total, self._where("step", f"reward of {self.frames_per_step} frames"))
        encoded = self._encode(observation, "step")
        return Step(encoded, total, terminated or truncated, terminated, infos)

    def _raw_step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        try:
            answer = self.raw.step(action)
        except ValueError as error:
            self._refuse_number(error)
            raise
        if not (isinstance(answer, tuple) and len(answer) == 5):
            raise self._broken("step", _given(answer), _FIVE)
        return answer

    def _refuse_number(self, error: ValueError) -> None:
        """Raise if a wrapper of Gymnasium could not unpack what the environment returned."""
        if "values to unpack" in str(error) and re.search(r"gymnasium.wrappers", place_of(error)):
            raise self._broken("step", str(error), _FIVE) from error

    def _flag(self, value: Any, name: str) -> bool:
        return value if value is True or value is False else require_flag(value, self._where("step", name))

    def probe_step_after_end(self, action: dict[str, np.ndarray]) -> Step:
        """Step the raw environment past its end, to let check_environment see what happens."""
        return call_outside(lambda: self._step(action))

    def render(self) -> np.ndarray:
        if self.raw.render_mode == "rgb_array":
            try:
                frame = call_outside(self.raw.render)
            except Exception as error:  # e.g. pygame is missing
                if rendering.is_about_drawing(error):
                    raise rendering.no_renderer() from error
                where = f"{self._task} cannot be rendered: {place_of(error)}".removesuffix(": ")
                raise CannotDrawError(f"{where}: {described(error)}") from error
            if isinstance(frame, np.ndarray):
                if frame.ndim != 3 or frame.shape[-1] != 3:
                    raise CannotDrawError(
                        f"{self._task} cannot be rendered: render(){self._places['render']} returned an array of shape "
                        f"{frame.shape}; return a uint8 array of shape [H, W, 3]."
                    )
                return frame.astype(np.uint8)
        for key, space in self.observation_space.items():
            if space.is_image and self._raw_observation is not None:
                image = gymnasium_spaces.encode(self._observations, self._raw_observation, "", False)[key]
                return image[..., :3] if space.shape[-1] >= 3 else np.repeat(image[..., :1], 3, -1)
        if "'rgb_array'" in str(self.raw.metadata):  # whatever its type
            lacks = "was not made with render_mode='rgb_array'; pass that to it to get a video."
        else:
            lacks = "no 'rgb_array' in metadata['render_modes']; add that mode to the environment to get a video."
        raise CannotDrawError(f"{self._task} cannot be rendered: it has no image observation and {lacks}")

    def close(self) -> None:
        close_outside(self.raw.close, self._task)

    def _encode(self, observation: Any, call: str) -> dict[str, np.ndarray]:
        self._raw_observation = observation
        if self._plain and (encoded := self._plain(observation)):
            self._raw_observation = encoded[self._plain.key]
            return encoded
        where = self._where(call, "observation") if self._check else ""
        return gymnasium_spaces.encode(self._observations, observation, where, self._check)

    def defer_checks(self) -> bool:
        """See DefersChecks."""
        self._plain = Plain.of(self._observations) if self._check else None
        return self._plain is not None

    def row_stepping(self) -> RowStepping | None:
        """See StepsByRows."""
        if self._plain is None or self.frames_per_step > 1:
            return None
        native = gymnasium_spaces.row_decoder(self.raw.action_space, self._actions)
        return RowStepping(self._plain.key, self._plain.dtype, self._plain.shape, native, self._stepping_into)

    def _stepping_into(self, row: np.ndarray) -> Callable[[Any], Outcome]:
        """`step` with an action of its own, for environments whose steps take microseconds."""
        assert self._plain is not None, "checks are deferred"
        key, dtype, shape = self._plain.key, self._plain.dtype, self._plain.shape
        advance: Callable[[Any], Any] = self.raw.step
        limit: float = math.inf
        if type(self.raw) is TimeLimit:  # to compare two numbers costs less than its call
            advance, limit = self.raw.env.step, self.raw._max_episode_steps

        def step(action: Any) -> Outcome:
            if not self._open:
                raise self._not_open()
            self._steps = steps = self._steps + 1
            try:
                answer = advance(action)
            except ValueError as error:
                self._refuse_number(error)
                raise
            if not (isinstance(answer, tuple) and len(answer) == 5):
                raise self._broken("step", _given(answer), _FIVE)
            observation, reward, terminated, truncated, info = answer
            infos: tuple[Info, ...] = ()
            if (type(info) is not dict or info) and (numbers := read_info(info)):
                infos = (numbers,)
            if not (isinstance(reward, float) and -LARGEST <= reward <= LARGEST):
                reward = require_reward(reward, self._where("step", "reward"))
            if terminated is not False and terminated is not True:
                terminated = self._flag(terminated, "terminated")
            if truncated is not False and truncated is not True:
                truncated = self._flag(truncated, "truncated")
            if type(observation) is np.ndarray and observation.dtype == dtype and observation.shape == shape:
                row[...] = observation
            else:
                row[...] = self._encode(observation, "step")[key].reshape(shape)
            self._raw_observation = row  # for its check: several environments may share the array of their own
            if terminated or truncated or steps >= limit:
                self._open = False
                return reward, True, terminated, infos
            return reward, False, False, infos

        return step

    def check_last(self) -> None:
        """See DefersChecks."""
        where = self._where("step" if self._steps else "reset", "observation")
        gymnasium_spaces.encode(self._observations, self._raw_observation, where, True)

    def _where(self, call: str, what: str) -> str:
        number = f" number {self._steps}" if call == "step" else ""
        return f"{self._task}, {call}(){number} of the episode with seed {self._seed}{self._places[call]}, {what}"

    def _broken(self, call: str, what: str, remedy: str) -> BrokenEnvironmentError:
        return BrokenEnvironmentError(what, f"{self._task}, {call}(){self._places[call]}", remedy)


def _keys(leaves: list[Leaf]) -> Spaces:
    return {key: space for leaf in leaves for key, space in leaf.keys.items()}


def _prefixed(leaf: Leaf) -> Leaf:
    return replace(leaf, keys={f"action/{key}": space for key, space in leaf.keys.items()})


def _place(environment: gymnasium.Env, method: str) -> str:
    """File and line of an environment's own method."""
    with suppress(Exception):
        code = getattr(type(environment.unwrapped), method).__code__
        return f" ({code.co_filename}, line {code.co_firstlineno})"
    return ""


def _given(answer: Any) -> str:
    return (
        f"returned {counted(len(answer), 'value')}"
        if isinstance(answer, tuple)
        else f"returned a {type(answer).__name__} alone"
    )


def _frame_limit(environment: gymnasium.Env) -> int:
    """The lowest limit of Gymnasium's own wrappers; 0: there is none."""
    limits = []
    while isinstance(environment, gymnasium.Wrapper):
        if isinstance(environment, TimeLimit):
            limits.append(environment._max_episode_steps)
        environment = environment.env
    return min(limits, default=0)
