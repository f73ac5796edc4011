"""What depends on the task: its environments, their spaces, and the schema of replay. Torch-free."""

import os
from collections.abc import Callable, Mapping
from contextlib import chdir, closing
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np

from actors.config import CONTINUOUS_PLANNERS
from actors.environment import Environment
from actors.envs import make, make_pool, own_module, steps_in_batches
from actors.envs.wrappers import step_limit
from actors.isolation.environment_process import Limits
from actors.isolation.isolated import IsolatedEnvironments
from actors.pool import Pool
from deploy.import_path import own_folder_last
from deploy.wiring.config import RunConfig
from replay.step import Field, Schema
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.observation_keys import require_learnable
from world_models.space import Space, Spaces


def environment_maker(config: RunConfig) -> Callable[[], Environment]:
    """Makes one environment of the run at each call."""
    return partial(make, config.task, config.environment)


def isolated(config: RunConfig) -> bool:
    """Whether the environments of the actors and of the evaluator have processes of their own."""
    if config.actor.isolation == "auto":
        return config.mode != "inline" and bool(own_module(config.task))
    return config.actor.isolation == "process"


def actor_environment_maker(config: RunConfig) -> Callable[[], Environment]:
    """Makes one environment of an actor, or of the evaluator, at each call."""
    if not isolated(config):
        return environment_maker(config)
    actor = config.actor
    limits = Limits(actor.step_timeout, actor.reset_timeout, actor.environment_gb)
    return IsolatedEnvironments(config.task, config.environment, limits)


def pool_maker(config: RunConfig, threads: int = 0) -> Callable[[int], Pool] | None:
    """Makes a pool of as many environments as it is told, with `threads` threads where the configuration leaves them
    open; None if environments are stepped one by one. ValueError if the configuration demands what the task lacks."""
    environment, able = config.environment, steps_in_batches(config.task, config.environment)
    if environment.pool == "on" and not able:
        raise ValueError(
            f"environment.pool='on': task {config.task!r} has no back end that steps its environments together"
            f"{' and keeps environment.time_limit' if environment.time_limit else ''}; leave it at auto."
        )
    if isolated(config) or environment.pool == "off" or not able:
        return None
    return partial(make_pool, config.task, environment, threads=environment.pool_threads or threads)


class TaskSpaces(NamedTuple):
    """The observation and action spaces of a task."""

    observation: Spaces
    action: Spaces

    def to_json(self) -> dict[str, Any]:
        return {
            part: {key: space.to_json() for key, space in spaces.items()} for part, spaces in self._asdict().items()
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(*({key: Space.from_json(one) for key, one in document[part].items()} for part in cls._fields))


def spaces_of(config: RunConfig) -> TaskSpaces:
    """The spaces of the task, from a short-lived environment in this process. ValueError if it cannot be made."""
    with closing(FirstEnvironment(config)) as environment:
        return environment.spaces


class FirstEnvironment:
    """An environment of the run that is made at once for its spaces and then used like the others: the first call
    returns it, every later call makes another. ValueError if it cannot be made."""

    def __init__(self, config: RunConfig):
        self._make = environment_maker(config)
        pool_maker(config)  # refuses what cannot be
        with chdir("."):  # it may change the directory, but paths of the command must stay valid
            first = self._make()
            self._directory = os.getcwd()
        self._first: Environment | None = first
        self.spaces = TaskSpaces(first.observation_space, first.action_space)
        self.step_limit = step_limit(first)

    def __call__(self) -> Environment:
        first, self._first = self._first, None
        if first is None:
            return self._make()
        os.chdir(self._directory)
        return first

    def close(self) -> None:
        """Close the environment unless a caller has taken it."""
        first, self._first = self._first, None
        if first is not None:
            first.close()


def require_trainable(config: RunConfig, spaces: TaskSpaces) -> None:
    """ValueError if no agent of this configuration fits the observations of its task, or no planner its actions."""
    discrete = [key for key, space in spaces.action.items() if space.discrete]
    if config.actor.planner in CONTINUOUS_PLANNERS and discrete:
        raise ValueError(
            f"actor.planner={config.actor.planner!r} plans continuous actions, but {', '.join(discrete)} of "
            f"{config.task} is discrete; use cem, mppi, predictive_sampling or random_shooting."
        )
    try:
        require_learnable(spaces.observation, config.model)
    except ValueError as error:
        raise ValueError(f"Task {config.task!r}: {error}") from error


def enter(directory: str) -> None:
    """Change to the directory of the command, where the user's environment modules are; Ray starts elsewhere."""
    os.chdir(directory)
    own_folder_last(os.getcwd())


def replay_schema(observation: Spaces, action: Spaces, model: DreamerConfig) -> Schema:
    """The content of a step: observations in their own dtype, actions in float32 or int32, latents compact
    (`stoch`: the class of each variable, -1 for none, as in an initial state)."""

    def fields(spaces: Mapping[str, Space]) -> dict[str, Field]:
        return {key: Field(dtype=space.dtype, shape=space.shape) for key, space in spaces.items()}

    latents = {
        "deter": Field(dtype=np.dtype(np.float16), shape=(model.rssm.deter,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(model.rssm.stoch,)),
    }
    return Schema.transitions(fields(observation), fields(action), latents=latents)
