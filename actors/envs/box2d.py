"""Repairs of Gymnasium's Box2D environments."""

from typing import Any

import gymnasium


def repaired(environment: gymnasium.Env) -> gymnasium.Env:
    """BipedalWalker in a world of its own for each episode; any other environment as it is."""
    return FreshWorld(environment) if type(environment.unwrapped).__name__ == "BipedalWalker" else environment


class FreshWorld(gymnasium.Wrapper):
    """Gymnasium's BipedalWalker keeps its Box2D world, whose order of contacts depends on earlier episodes, so that the
    same seed and actions give another one. LunarLander had the same fault and was mended in this way."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        import Box2D

        walker: Any = self.env.unwrapped
        walker._destroy()
        walker.world = Box2D.b2World()
        return self.env.reset(seed=seed, options=options)
