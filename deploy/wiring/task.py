"""What the task decides: its environments, spaces, and what a step of replay holds. Torch-free."""

import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from functools import partial

import numpy as np

from actors.environment import Environment
from actors.envs import make
from deploy.import_path import own_folder_last
from deploy.wiring.config import RunConfig
from replay.step import Field, Schema
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.observation_keys import require_learnable
from world_models.space import Space, Spaces


def environment_maker(config: RunConfig) -> Callable[[], Environment]:
    """Makes one environment of the run at each call."""
    return partial(make, config.task, config.environment)


def spaces_of(config: RunConfig) -> tuple[Spaces, Spaces]:
    """Observation and action spaces of the task, from a short-lived environment. ValueError: it cannot be made."""
    with chdir("."):  # it may go elsewhere; the paths of the command stay
        environment = environment_maker(config)()
        try:
            return environment.observation_space, environment.action_space
        finally:
            environment.close()


def require_trainable(config: RunConfig) -> None:
    """ValueError where the task cannot be made, or where no agent of this configuration fits its observations."""
    observation, _ = spaces_of(config)
    try:
        require_learnable(observation, config.model)
    except ValueError as error:
        raise ValueError(f"Task {config.task!r}: {error}") from error


class Probe:
    """Looks at the task from a process of its own, as the workers will see it: with the user's folder at hand."""

    def __init__(self, directory: str):
        enter(directory)

    def spaces(self, config: RunConfig) -> tuple[Spaces, Spaces]:
        return spaces_of(config)


def enter(directory: str) -> None:
    """Work where the command was given: the user's own environment modules lie there, and Ray starts elsewhere."""
    os.chdir(directory)
    own_folder_last(directory)


def replay_schema(observation: Spaces, action: Spaces, model: DreamerConfig) -> Schema:
    """What a step of this run holds: observations in their own dtype, actions float32 or int32, latents compact."""

    def fields(spaces: Mapping[str, Space]) -> dict[str, Field]:
        return {key: Field(dtype=space.dtype, shape=space.shape) for key, space in spaces.items()}

    latents = {
        "deter": Field(dtype=np.dtype(np.float16), shape=(model.rssm.deter,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(model.rssm.stoch,)),
    }
    return Schema.transitions(fields(observation), fields(action), latents=latents)
