"""Environments registered with Ray: `rllib:my_module:NAME` imports my_module, which calls `ray.tune.register_env`.

Ray is imported for its registry alone and is not started.
"""

import json
from typing import Any

import gymnasium

from actors.closing import close_outside
from actors.config import EnvironmentConfig
from actors.envs import rendering
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.gymnasium_making import file_of, import_module, naming_sources, reason, require_spaces, source
from actors.faults import call_outside

PREFIX = "rllib:"
_ARGUMENTS = {"give": "pass it in the creator", "omit": "leave it out in the creator"}


class EnvironmentContext(dict[str, Any]):
    """What a creator gets: `env_config` with the attributes of RLlib's EnvContext, as in RLlib's local worker."""

    worker_index = vector_index = num_workers = 0
    remote = recreated_worker = False


def task_names() -> list[str]:
    """None: a task exists once its module has been imported."""
    return []


def make(task: str, config: EnvironmentConfig) -> GymnasiumEnvironment:
    """The environment `rllib:MODULE:NAME`, or `rllib:NAME` if this process has registered it itself.

    Raises ValueError saying what failed, where, and what to do.
    """
    rendering.choose_when_imported()
    with naming_sources():
        environment = _make_raw(task, EnvironmentContext(json.loads(config.env_config)))
    try:
        _require_single(environment, task)
        require_spaces(environment, task)
        return GymnasiumEnvironment(environment, task, config)
    except Exception:
        if callable(getattr(environment, "close", None)):
            close_outside(environment.close, task)
        raise


def _make_raw(task: str, context: EnvironmentContext) -> Any:
    module, _, name = task.removeprefix(PREFIX).rpartition(":")
    if not name:
        raise ValueError(
            f"Task {task!r} names no environment; write rllib:my_module:NAME, NAME as in register_env(NAME, ...)."
        )
    registry = _registry(task)
    if module:
        import_module(module, task)
    if not registry._global_registry.contains(registry.ENV_CREATOR, name):
        raise ValueError(_unregistered(task, module, name, registry))
    creator = call_outside(lambda: registry._global_registry.get(registry.ENV_CREATOR, name))
    try:
        return call_outside(lambda: creator(context))
    except Exception as error:
        remedy = ""
        if isinstance(error, KeyError) and error.args and error.args[0] not in context:
            values = json.dumps({**context, str(error.args[0]): "..."})
            remedy = f" If it is missing in env_config, add it: --environment.env-config '{values}'."
        raise ValueError(f"Task {task!r} cannot be made: {reason(error, creator, **_ARGUMENTS)}{remedy}") from error


def _registry(task: str) -> Any:
    """Ray's module of registered environments."""
    try:
        from ray.tune import registry
    except ImportError as error:
        raise ValueError(
            f'Task {task!r} needs ray.tune, which is not fully installed: pip install "nexus-worlds[tune]"'
        ) from error
    return registry


def _unregistered(task: str, module: str, name: str, registry: Any) -> str:
    if not module:
        return (
            f"Task {task!r}: this process has registered no environment {name!r}, and Ray shows a program only its "
            f"own. Name the module that calls ray.tune.register_env({name!r}, ...): rllib:my_module:{name}"
        )
    known = registry._global_registry
    own = sorted(key for kind, key in (*known._registered, *known._to_flush) if kind == registry.ENV_CREATOR)
    return (
        f"Importing {module!r} ({file_of(module)}) did not register {name!r} with Ray (registered are {own}); call "
        f"ray.tune.register_env({name!r}, creator) at the top level of that file."
    )


def _require_single(environment: Any, task: str) -> None:
    """ValueError unless it is one Gymnasium environment with one agent. A MultiAgentEnv is a gymnasium.Env too."""
    made = source(type(environment))
    if getattr(environment, "possible_agents", None) is not None:
        raise ValueError(
            f"Task {task!r}: {made} has several agents, which Nexus does not train; make an environment that observes, "
            "acts and is rewarded as one."
        )
    if hasattr(environment, "num_envs"):
        raise ValueError(
            f"Task {task!r}: {made} is a vector of environments; let the creator return a single one. Nexus makes "
            "actor.environments of them."
        )
    if not isinstance(environment, gymnasium.Env):
        raise ValueError(
            f"Task {task!r}: the creator returned {made}, which is no gymnasium.Env; derive its class from that."
        )
