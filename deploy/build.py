"""Wires a run together in one place: environments, replay, agent, learner, actor."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from actors.actor import Actor
from actors.environment import Environment
from actors.envs import make
from actors.policy import DreamerPolicy
from actors.vector import VectorEnvironment
from deploy.config import RunConfig
from learner.config import LearnerConfig
from learner.learner import sample_length
from replay.config import ReplayConfig
from replay.keys import stream_id
from replay.memory_store import MemoryStore
from replay.sharding import ShardedStore
from replay.step import Field, Schema
from replay.store import Store
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig
from world_models.space import Space, Spaces

EVALUATION_INDEX = 1 << 20
"""Evaluation environments number from here, so that their seeds are not those of training."""


def environment_maker(config: RunConfig) -> Callable[[], Environment]:
    return partial(make, config.task, config.environment)


def spaces_of(config: RunConfig) -> tuple[Spaces, Spaces]:
    """Observation and action spaces of the task, from a short-lived environment."""
    environment = environment_maker(config)()
    try:
        return environment.observation_space, environment.action_space
    finally:
        environment.close()


def replay_schema(observation: Spaces, action: Spaces, model: DreamerConfig) -> Schema:
    """What a step of this run holds: observations in their own dtype, actions float32 or int32, latents compact."""

    def fields(spaces: Mapping[str, Space]) -> dict[str, Field]:
        return {key: Field(dtype=space.dtype, shape=space.shape) for key, space in spaces.items()}

    latents = {
        "deter": Field(dtype=np.dtype(np.float16), shape=(model.rssm.deter,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(model.rssm.stoch,)),
    }
    return Schema.transitions(fields(observation), fields(action), latents=latents)


def memory_shard(schema: Schema, config: ReplayConfig, learner: LearnerConfig, streams: int) -> MemoryStore:
    """One shard of the run's replay; capacities are shared out evenly."""
    return MemoryStore(
        schema,
        length=sample_length(learner),
        capacity=max(1, config.capacity // config.shards),
        capacity_gb=config.capacity_gb / config.shards or None,
        chunk_length=config.chunk_length,
        streams=streams,
        online=config.online,
    )


def memory_store(schema: Schema, config: RunConfig) -> Store:
    """Replay of inline mode: sharded memory stores in this process."""
    shards = [
        memory_shard(schema, config.replay, config.learner, config.actor.environments)
        for _ in range(config.replay.shards)
    ]
    return ShardedStore(shards)


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
    return Actor(
        vector,
        DreamerPolicy(model, seed=config.seed * 100_003 + actor + 1),
        store,
        [stream_id(actor, incarnation, slot) for slot in range(len(indices))],
        seed=config.seed * 100_003 + actor,
        random_steps=config.actor.random_steps // actors,
        flush_steps=config.actor.flush_steps if actors > 1 or config.mode != "inline" else 1,
        flush_seconds=config.actor.flush_seconds,
    )


def faults(logdir: Path) -> Path:
    return logdir / "faults"
