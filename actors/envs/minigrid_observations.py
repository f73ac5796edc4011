"""What an agent sees of a MiniGrid environment: the cells in front of it as classes or as pixels, and the mission."""

import re
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.mission import MissionSpace
from minigrid.envs.babyai.core.roomgrid_level import BabyAIMissionSpace
from minigrid.minigrid_env import MiniGridEnv

from actors.config import EnvironmentConfig

LAYERS = {"object": len(OBJECT_TO_IDX), "color": len(COLOR_TO_IDX), "state": len(STATE_TO_IDX)}
"""What MiniGrid encodes of each cell, in its order, and the number of classes."""
TILE = 8  # pixels of a cell in the published pixel observations, if the size is not given

_BABYAI = (
    "a after and ball behind blue box door front go green grey in key left next object of on open pick purple put red "
    "right the then to up yellow you your ,"
)
_BABYAI_LENGTH = 80
"""BabyAI's missions are sentences of a grammar, joined from up to four tasks of at most 17 words each."""


def adapted(environment: gymnasium.Env, config: EnvironmentConfig) -> gymnasium.Env:
    """A MiniGrid environment whose observations still hold the text of the mission, made learnable; any other one as
    it is."""
    space = environment.observation_space
    if not isinstance(environment.unwrapped, MiniGridEnv) or not isinstance(space, spaces.Dict):
        return environment
    mission = space.spaces.get("mission")
    if space.spaces.keys() != {"image", "direction", "mission"} or not isinstance(mission, MissionSpace):
        return environment
    return LearnableObservation(environment, config)


class LearnableObservation(gymnasium.Wrapper):
    """The agent's view of a MiniGrid environment as arrays of fixed size.

    `vectors` (the default): `object`, `color` and `state` of each cell of the view, int `[7 7]`, as classes, instead of
    MiniGrid's image of their numbers. `pixels`: the view drawn, `image`. `both`: all of these. The `direction`, one of
    four, is always there. A `mission` that never changes is left out; any other is there as the indices of its words,
    0 for none. `is_success` in info says whether the goal was reached.
    """

    def __init__(self, environment: gymnasium.Env, config: EnvironmentConfig) -> None:
        super().__init__(environment)
        self._grid: Any = environment.unwrapped
        shape = environment.observation_space["image"].shape[:2]  # type: ignore[index]
        self._cells = config.observations in ("vectors", "both")
        self._pixels = config.observations in ("pixels", "both")
        self._tile = max(min(config.image_size) // max(shape), 1) if any(config.image_size) else TILE
        parts: dict[str, spaces.Space] = {"direction": spaces.Discrete(4)}
        if self._cells:
            parts |= {key: spaces.MultiDiscrete(np.full(shape, classes)) for key, classes in LAYERS.items()}
        if self._pixels:
            parts["image"] = spaces.Box(0, 255, (shape[1] * self._tile, shape[0] * self._tile, 3), np.uint8)
        words, self._length = _language(environment.observation_space["mission"])  # type: ignore[index]
        self._words = {word: index + 1 for index, word in enumerate(words)}
        if words:
            parts["mission"] = spaces.MultiDiscrete(np.full(self._length, len(words) + 1))
        self.observation_space = spaces.Dict(parts)
        self._ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._ended = False
        return self._converted(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self._ended:  # MiniGrid itself would go on
            raise gymnasium.error.ResetNeeded("The episode has ended; call reset() first.")
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._ended = bool(terminated or truncated)
        if self._ended:
            info = {**info, "is_success": float(reward) > 0}
        return self._converted(observation), reward, terminated, truncated, info

    def _converted(self, observation: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {"direction": observation["direction"]}
        if self._cells:
            out |= {key: observation["image"][..., layer] for layer, key in enumerate(LAYERS)}
        if self._pixels:
            out["image"] = self._grid.get_frame(tile_size=self._tile, agent_pov=True)
        if self._words:
            out["mission"] = self._encoded(observation["mission"])
        return out

    def _encoded(self, mission: str) -> np.ndarray:
        words = _split(mission)
        if unknown := [word for word in words if word not in self._words]:
            raise ValueError(f"The mission {mission!r} has words that its space does not declare: {unknown}.")
        if len(words) > self._length:
            raise ValueError(f"The mission {mission!r} has {len(words)} words, more than {self._length}.")
        out = np.zeros(self._length, np.int64)
        out[: len(words)] = [self._words[word] for word in words]
        return out


def _language(space: MissionSpace) -> tuple[list[str], int]:
    """The words of the missions of a space, in a fixed order, and the most words of a mission; none if there is only
    one mission."""
    if isinstance(space, BabyAIMissionSpace):
        return _BABYAI.split(), _BABYAI_LENGTH
    choices = space.ordered_placeholders or []
    if all(len(choice) == 1 for choice in choices):
        return [], 0
    longest = [max(choice, key=lambda text: len(_split(text))) for choice in choices]
    words = set()
    for place, choice in enumerate(choices):
        for text in choice:
            words |= set(_split(space.mission_func(*longest[:place], text, *longest[place + 1 :])))
    return sorted(words), len(_split(space.mission_func(*longest)))


def _split(mission: str) -> list[str]:
    return re.findall(r",|[^\s,]+", mission)
