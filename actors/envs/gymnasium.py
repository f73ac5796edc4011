"""Any Gymnasium environment: `gym:CartPole-v1`, or `gym:my_module:MyEnv-v0`, which importing my_module registers."""

import importlib
import os
import sys
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from actors.config import EnvironmentConfig
from actors.environment import CannotDrawError, Step
from actors.envs import gymnasium_spaces, unknown_task
from actors.envs.gymnasium_spaces import Leaf
from actors.faults import require_reward
from world_models.space import Spaces

# Pictures are read back, never shown; without this SDL looks for a display and complains.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def task_names() -> list[str]:
    """Tasks registered with Gymnasium so far."""
    return [f"gym:{name}" for name in gymnasium.registry]


def make(task: str, config: EnvironmentConfig) -> "GymnasiumEnvironment":
    """The environment `gym:ID` or `gym:MODULE:ID`. Raises ValueError if there is none or it cannot be made."""
    module, _, name = task.removeprefix("gym:").rpartition(":")
    if module:
        _import(module, task)
    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error as error:
        if module:
            registered = sorted(key for key, spec in gymnasium.registry.items() if module in str(spec.entry_point))
            raise ValueError(
                f"Importing {module!r} did not register {name!r} with Gymnasium (it registered {registered}); call "
                f"gymnasium.register(id={name!r}, entry_point=YourClass) at the top level of that file."
            ) from error
        raise unknown_task(task, task_names()) from error
    creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(str(spec.entry_point))
    modes = getattr(creator, "metadata", {}).get("render_modes") or []
    options: dict[str, Any] = {"render_mode": "rgb_array"} if "rgb_array" in modes else {}
    try:
        # Our own checks name key, place and remedy, so Gymnasium's passive checker stays off.
        environment = gymnasium.make(spec, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(f"Task {task!r} misses a package: {error}") from error
    return GymnasiumEnvironment(environment, task, config)


def _import(module: str, task: str) -> None:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last: no file there may stand in for an installed package
    importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise ValueError(
                f"Task {task!r}: there is no module {module!r} in {os.getcwd()} or on PYTHONPATH; start the command "
                f"where {module.replace('.', '/')}.py lies, or add its folder to PYTHONPATH."
            ) from error
        raise


class GymnasiumEnvironment:
    """A Gymnasium environment as an Environment, but with the raw bounds of its actions (see NormalizeActions)."""

    def __init__(self, environment: gymnasium.Env, task: str, config: EnvironmentConfig) -> None:
        self.raw = environment
        self.frames_per_step = config.action_repeat
        self._task = task
        self._check = config.check_steps
        self._observations = gymnasium_spaces.flatten(
            environment.observation_space, actions=False, image_size=config.image_size
        )
        self._actions = gymnasium_spaces.flatten(environment.action_space, actions=True, image_size=config.image_size)
        self.observation_space = _keys(self._observations)
        self.action_space = {
            key: replace(space, native=leaf.native) for leaf in self._actions for key, space in leaf.keys.items()
        }
        self._last: Step | None = None
        self._seed = self._steps = 0

    def reset(self, seed: int) -> Step:
        self._seed, self._steps = seed, 0
        observation, _ = self.raw.reset(seed=seed)
        self._last = Step(self._encode(observation, "reset()"), 0.0, False, False)
        return self._last

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if self._last is None or self._last.is_last:
            raise ValueError(f"{self._task}: step() without an open episode; call reset(seed) first.")
        self._last = self._step(action)
        return self._last

    def _step(self, action: dict[str, np.ndarray]) -> Step:
        raw_action = gymnasium_spaces.decode(self.raw.action_space, self._actions, action)
        total, terminated, truncated, observation = 0.0, False, False, None
        self._steps += 1
        for _ in range(self.frames_per_step):
            observation, reward, terminated, truncated, _ = self.raw.step(raw_action)
            total += require_reward(reward, self._where("reward", "step()")) if self._check else float(reward)
            if terminated or truncated:
                break
        encoded = self._encode(observation, "step()")
        return Step(encoded, total, bool(terminated or truncated), bool(terminated))

    def probe_step_after_end(self, action: dict[str, np.ndarray]) -> Step:
        """Step the raw environment past its end; only check_environment wants to know what happens then."""
        return self._step(action)

    def render(self) -> np.ndarray:
        if self.raw.render_mode == "rgb_array":
            try:
                frame = self.raw.render()
            except Exception as error:  # no pygame, say
                raise CannotDrawError(f"{self._task} cannot be drawn: {type(error).__name__}: {error}") from error
            if isinstance(frame, np.ndarray):
                return frame.astype(np.uint8)
        for key, space in self.observation_space.items():
            if space.is_image and self._last is not None:
                image = self._last.observation[key]
                return image[..., :3] if space.shape[-1] >= 3 else np.repeat(image[..., :1], 3, -1)
        raise CannotDrawError(
            f"{self._task} draws nothing: it has no image observation and no 'rgb_array' in "
            "metadata['render_modes']; add that mode to the environment to get a video."
        )

    def close(self) -> None:
        self.raw.close()

    def _encode(self, observation: Any, call: str) -> dict[str, np.ndarray]:
        where = self._where("observation", call) if self._check else ""
        return gymnasium_spaces.encode(self._observations, observation, where, self._check)

    def _where(self, what: str, call: str) -> str:
        return f"{self._task}, {call} number {self._steps} of the episode with seed {self._seed}, {what}"


def _keys(leaves: list[Leaf]) -> Spaces:
    return {key: space for leaf in leaves for key, space in leaf.keys.items()}
