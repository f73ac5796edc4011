"""Repairs of Gymnasium's Box2D environments."""

from typing import Any

import gymnasium
import numpy as np


def repaired(environment: gymnasium.Env) -> gymnasium.Env:
    """BipedalWalker in a world of its own for each episode, and both it and LunarLander without bounds of their
    observations; any other environment as it is."""
    kind = type(environment.unwrapped)
    name = kind.__name__ if kind.__module__.startswith("gymnasium.envs.box2d.") else ""
    if name in ("LunarLander", "BipedalWalker"):
        environment = Unbounded(environment)
    return FreshWorld(environment) if name == "BipedalWalker" else environment


class Unbounded(gymnasium.Wrapper):
    """An environment whose observations leave the bounds that it declares: LunarLander flies higher than 2.5."""

    def __init__(self, environment: gymnasium.Env) -> None:
        super().__init__(environment)
        space = environment.observation_space
        assert isinstance(space, gymnasium.spaces.Box), space
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)


class FreshWorld(gymnasium.Wrapper):
    """Gymnasium's BipedalWalker keeps its Box2D world, whose order of contacts depends on earlier episodes, so that the
    same seed and actions give another one. LunarLander had the same fault and was mended in this way."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        import Box2D

        walker: Any = self.env.unwrapped
        walker._destroy()
        walker.world = Box2D.b2World()
        return self.env.reset(seed=seed, options=options)
