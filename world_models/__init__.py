"""World models: DreamerV3, a first small model, planners, and what model families share."""

from pkgutil import resolve_name
from typing import Any

_LAZY = {
    "SimpleWorldModel": "world_models.simple.world_model:SimpleWorldModel",
    "SimpleWorldModelConfig": "world_models.simple.config:SimpleWorldModelConfig",
    "imagine_parallel": "world_models.simple.world_model:SimpleWorldModel.imagine_parallel",
    "plan_with_world_model": "world_models.simple.plan:plan_with_world_model",
}
"""Public names that are imported on use: most need torch, which the supervisor must not import."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return resolve_name(_LAZY[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
