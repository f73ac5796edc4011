"""Wires the parts of a run together: replay, agent, actor."""

import torch

from actors.actor import Actor
from actors.policy import DreamerPolicy
from actors.vector import VectorEnvironment
from deploy.config import RunConfig
from deploy.task import environment_maker
from replay.keys import stream_id
from replay.store import Store
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer
from world_models.space import Spaces


def build_agent(config: RunConfig, observation: Spaces, action: Spaces) -> Dreamer:
    """A fresh agent whose initial parameters depend on the run's seed alone."""
    torch.manual_seed(config.seed)
    return Dreamer(observation, action, config.model)


def build_actor(
    config: RunConfig, model: ActingModel, store: Store, actor: int = 0, actors: int = 1, incarnation: int = 0
) -> Actor:
    """Actor number `actor` of `actors`, with its share of the environments."""
    indices = list(range(actor, config.actor.environments, actors))
    vector = VectorEnvironment([environment_maker(config)] * len(indices), config.seed, indices)
    seed = config.seed * 100_003 + incarnation * 1009 + actor
    return Actor(
        vector,
        DreamerPolicy(model, seed=seed + 1),
        store,
        [stream_id(actor, incarnation, slot) for slot in range(len(indices))],
        seed=seed,
        random_steps=config.actor.random_steps // actors if not incarnation else 0,
        flush_steps=1 if config.mode == "inline" else config.actor.flush_steps,
        flush_seconds=config.actor.flush_seconds,
    )
