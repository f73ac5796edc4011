"""Builds the agent and the actors of a run."""

from collections.abc import Callable

import torch

from actors.actor import Actor
from actors.environment import Environment
from actors.vector import VectorEnvironment
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import actor_streams
from deploy.wiring.task import environment_maker
from replay.store import Store
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.policy import DreamerPolicy
from world_models.families import family_of
from world_models.space import Spaces

EPISODE_BITS = 20  # episodes of one environment in one life


def build_agent(config: RunConfig, observation: Spaces, action: Spaces) -> Dreamer:
    """A new agent whose initial parameters depend only on the run's seed."""
    torch.manual_seed(config.seed)
    agent: Dreamer = family_of(config.model).build(observation, action, config.model)
    return agent


def build_actor(
    config: RunConfig, model: ActingModel, store: Store, actor: int = 0, actors: int = 1, incarnation: int = 0,
    steps: int = 0, make: Callable[[], Environment] | None = None,
) -> Actor:  # fmt: skip
    """Actor number `actor` of `actors`, with its share of the environments. Each life (`incarnation`) has its own
    streams, episodes and seeds; `steps` is the number of steps that the run did before it. `make` makes an environment.
    """
    indices = list(range(actor, config.actor.environments, actors))
    vector = VectorEnvironment([make or environment_maker(config)] * len(indices), config.seed, indices)
    vector.episodes = [(incarnation << EPISODE_BITS) - 1] * len(indices)  # which determine the seeds
    seed = config.seed * 100_003 + incarnation * 1009 + actor
    return Actor(
        vector,
        DreamerPolicy(model, seed=seed + 1),
        store,
        actor_streams(config, actor, actors, incarnation),
        seed=seed,
        random_steps=max(0, config.actor.random_steps - steps) // actors,
        flush_steps=1 if config.mode == "inline" else config.actor.flush_steps,
        flush_seconds=config.actor.flush_seconds,
    )
