"""MiniGrid and BabyAI: `minigrid_empty_8x8` is MiniGrid-Empty-8x8-v0, `minigrid_babyai_goto` is BabyAI-GoTo-v0."""

import gymnasium

from actors.closing import close_outside
from actors.config import EnvironmentConfig
from actors.envs import unknown_task
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.gymnasium_making import import_module, make_raw
from actors.envs.minigrid_observations import adapted

PREFIX = "minigrid_"
IDS = ("MiniGrid-", "BabyAI-")


def task_names() -> list[str]:
    """All tasks that the package registers."""
    return sorted(_ids(PREFIX))


def make(task: str, config: EnvironmentConfig) -> GymnasiumEnvironment:
    """The environment of a task, or `minigrid_ID` with Gymnasium's own ID. Raises ValueError if it is unknown."""
    ids = _ids(task)
    name = ids.get(task) or ids.get(_name(task.removeprefix(PREFIX)))
    if name is None:
        raise unknown_task(task, list(ids))
    raw = make_raw(f"gym:{name}")
    try:
        environment = GymnasiumEnvironment(adapted(raw, config), task, config)
    except Exception:
        close_outside(raw.close, task)
        raise
    environment.backend = "minigrid"
    return environment


def _ids(task: str) -> dict[str, str]:
    """Gymnasium's ID of each task."""
    import_module("minigrid", task)
    return {_name(key): key for key in gymnasium.registry if key.startswith(IDS)}


def _name(identifier: str) -> str:
    """`MiniGrid-Empty-8x8-v0` as `minigrid_empty_8x8`; a later version keeps its number, `_v1`."""
    own = identifier.removeprefix("MiniGrid-").removesuffix("-v0")
    return PREFIX + own.lower().replace("-", "_")
