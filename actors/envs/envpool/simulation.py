"""N environments of envpool with its own actions and our observations: what the pool and the environment share.

Legend: N environments.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from actors.config import EnvironmentConfig
from actors.environment import CannotDrawError
from actors.envs import gymnasium_spaces
from actors.envs.envpool.loading import envpool, keep_renderer, make_spec, require_drawing
from actors.envs.envpool.tasks import LIMITING, REPEATING, SUCCESS, Target, part_of
from actors.envs.gymnasium_spaces import Leaf
from actors.native_observations import channels_first, image
from actors.pool import PoolStep
from world_models.space import Space, Spaces

LIMITS = np.finfo(np.float64)
Encoder = Callable[[np.ndarray], np.ndarray]


class Simulation:
    """N environments of a target, made when an episode `begin`s.

    envpool resets an environment in the call after its last step: that call ignores its action. Its seeds are those of
    N generators, from which all episodes are drawn. ValueError if the target cannot be made.
    """

    def __init__(self, target: Target, config: EnvironmentConfig, count: int, threads: int) -> None:
        self._target, self._count, self._repeat = target, count, config.action_repeat
        if target.options.get("from_pixels"):
            require_drawing()
        spec = make_spec(target.name, {"num_envs": count, **target.options})
        settings = dict(zip(spec._config_keys, spec._config_values, strict=True))
        if settings["max_num_players"] > 1:
            raise ValueError(
                f"{target.name} of envpool has up to {settings['max_num_players']} players; an agent acts for one. Use "
                "an environment for one player."
            )
        part = part_of(target)
        skip = settings["frame_skip"] if part in REPEATING else 1
        self.frames_per_step = skip * self._repeat
        own_limit = settings["max_episode_steps"]
        limited = config.time_limit and part.startswith(LIMITING)
        limit = min(own_limit, -(-config.time_limit // skip)) if limited else own_limit
        cores = len(os.sched_getaffinity(0))
        self._options = target.options | {
            "num_envs": count, "num_threads": min(count, threads or cores), "max_episode_steps": limit,
            "render_mode": "rgb_array",
        }  # fmt: skip
        self._part = part
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bounds beyond float32
            self.native_actions: gymnasium.Space = spec.gymnasium_action_space
            observations = _plain(spec.gymnasium_observation_space)
            self.native_actions = _plain(self.native_actions)
        self.actions = gymnasium_spaces.flatten(self.native_actions, actions=True, image_size=(0, 0))
        leaves = gymnasium_spaces.flatten(observations, actions=False, image_size=config.image_size)
        self.observation_space: Spaces = {key: space for leaf in leaves for key, space in leaf.keys.items()}
        self.action_space: Spaces = {key: space for leaf in self.actions for key, space in leaf.keys.items()}
        names = list(spec._state_keys)
        self._encoders = [
            (names.index(_name_of(leaf, names)), key, _encoder(leaf, space))
            for leaf in leaves
            for key, space in leaf.keys.items()
        ]
        known = ("reward", "done", "trunc", "info:env_id")
        self._reward, self._done, self._trunc, self._env_id = (names.index(name) for name in known)
        self._success = next((names.index(f"info:{name}") for name in SUCCESS if f"info:{name}" in names), -1)
        self._level = names.index(level) if (level := "info:prev_level_complete") in names else -1
        assert len(spec._action_keys) == 3, f"{target.name}: actions {spec._action_keys}, not of one environment each"
        self.action_dtype = np.dtype(next(reversed(spec.action_array_spec.values())).dtype)
        self._raw: Any = None
        self._newest: dict[str, np.ndarray] = {}
        self._everyone = np.arange(count, dtype=np.int32)

    def begin(self, seeds: Sequence[int]) -> PoolStep:
        """Make the environments with these seeds `[N]`, and begin their episodes."""
        if self._target.options.get("from_pixels"):
            keep_renderer(self._part, self._target.name)
        self._raw = None  # frees the old ones first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._raw = envpool().make_gymnasium(self._target.name, seed=list(seeds), **self._options)
        self._raw._reset(self._everyone)
        return self._answer(self._raw._recv())

    def step(self, actions: np.ndarray, ended: np.ndarray) -> PoolStep:
        """Apply envpool's own actions, `action_dtype [N, ...]`; `ended` environments begin an episode instead."""
        # What `step` of its Python class does around these two calls costs as much as 16 steps of CartPole.
        self._raw._send([self._everyone, self._everyone, actions])
        state = self._raw._recv()
        reached = state[self._success].copy() if self._success >= 0 and self._repeat > 1 else None
        for _ in range(self._repeat - 1):
            going = self._everyone[~(state[self._done].astype(bool) | ended)]
            if not len(going):
                break
            self._raw._send([going, going, actions[going]])
            more = self._raw._recv()
            where, rewards = more[self._env_id], state[self._reward]
            more[self._reward] = rewards[where] + more[self._reward]
            if reached is not None:
                reached[where] = np.maximum(reached[where], more[self._success])
            for whole, part in zip(state, more, strict=True):
                whole[where] = part
        return self._answer(state, reached)

    def render(self, i: int) -> np.ndarray:
        """Environment `i` as a picture for people."""
        assert self._raw is not None, "render() before the first episode"
        if self._part.startswith("envpool.mujoco."):
            require_drawing()
            keep_renderer(self._part, self._target.name)
        try:
            return np.asarray(self._raw.render(i)[0], np.uint8)
        except RuntimeError as error:
            for key, space in self.observation_space.items():
                if space.is_image:
                    picture = self._newest[key][i]
                    return picture[..., :3] if space.shape[-1] >= 3 else np.repeat(picture[..., :1], 3, -1)
            raise CannotDrawError(f"{self._target.name} of envpool cannot be rendered: {error}.") from error

    def close(self) -> None:
        """Free the environments; their threads end."""
        self._raw = None

    def _answer(self, state: Sequence[np.ndarray], reached: np.ndarray | None = None) -> PoolStep:
        """`reached`: success in any of the frames of this step, where it has several."""
        self._newest = observation = {key: encode(state[i]) for i, key, encode in self._encoders}
        done, infos = state[self._done], {}
        if self._success >= 0:
            # At the end of the episode, as is usual; Meta-World also asks whether it was reached at any time.
            success = state[self._success]
            infos = {"is_success": success, "log/success": success if reached is None else reached}
        elif self._level >= 0:
            infos = {"episode/level_complete": state[self._level]}
        return PoolStep(
            observation=observation,
            reward=state[self._reward],
            is_last=done,
            is_terminal=done > state[self._trunc],
            infos=infos,
        )


def _name_of(leaf: Leaf, names: Sequence[str]) -> str:
    """The name of envpool's array for a part of the observation."""
    if leaf.path:
        return f"obs:{'.'.join(leaf.path)}"
    return next(name for name in names if name == "obs" or name.startswith("obs:"))


def _plain(space: Any) -> Any:
    """The space with the smallest and largest float64 as infinities: envpool writes the smallest positive one where it
    means no bound below."""
    if isinstance(space, gymnasium.spaces.Dict):
        return gymnasium.spaces.Dict({key: _plain(child) for key, child in space.spaces.items()})
    if isinstance(space, gymnasium.spaces.Box) and space.dtype == np.float64:
        low = np.where((space.low == LIMITS.tiny) | (space.low == LIMITS.min), -np.inf, space.low)
        return gymnasium.spaces.Box(low, np.where(space.high == LIMITS.max, np.inf, space.high), dtype=np.float64)
    return space


def _encoder(leaf: Leaf, space: Space) -> Encoder:
    """Turns envpool's values of a key, `[N, ...]`, into arrays of `space`; see native_observations.encoded."""
    native: Mapping[str, Any] = space.native or {}
    if space.is_image:
        shape = leaf.shape if len(leaf.shape) == 3 else (*leaf.shape, 1)
        own = (*shape[1:], shape[0]) if channels_first(shape) else shape
        if own != space.shape:
            return lambda value: np.stack([image(one, space.shape) for one in value])
        if own != shape:
            return lambda value: np.ascontiguousarray(np.moveaxis(value, 1, -1))
        return lambda value: value.reshape(-1, *shape)
    start, index = np.asarray(native.get("start", 0)), native.get("index")
    if leaf.dtype == space.dtype and leaf.shape == space.shape and index is None and not start.any():
        return lambda value: value
    if space.dtype != np.int32:
        return lambda value: value.reshape(-1, *space.shape).astype(space.dtype, copy=False)
    if index is not None:
        return lambda value: (value - start).reshape(len(value), -1)[:, index].astype(np.int32)
    return lambda value: (value - start).reshape(-1, *space.shape).astype(np.int32, copy=False)
