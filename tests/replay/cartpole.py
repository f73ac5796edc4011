"""Real CartPole episodes in a store, by a random policy, with random latents and growing policy versions."""

from functools import partial

import numpy as np

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.trivial_policies import RandomPolicy
from actors.vector import VectorEnvironment
from replay.keys import stream_id
from replay.reading.episodes import Found, Source, episodes
from replay.step import Field, Rows, Schema
from replay.store import Store
from replay.writer import Writer
from world_models.space import Spaces

LENGTH = 9
LATENTS = {"deter": Field(dtype=np.dtype(np.float16), shape=(4,)), "stoch": Field(dtype=np.dtype(np.int8), shape=(2,))}


def spaces(task: str = "gym:CartPole-v1") -> tuple[Spaces, Spaces]:
    environment = make(task, EnvironmentConfig())
    try:
        return environment.observation_space, environment.action_space
    finally:
        environment.close()


def schema(task: str = "gym:CartPole-v1", latents: bool = True) -> Schema:
    groups = [{key: Field(dtype=s.dtype, shape=s.shape) for key, s in group.items()} for group in spaces(task)]
    return Schema.transitions(*groups, latents=LATENTS if latents else None)


def play(store: Store, steps: int = 300, environments: int = 2, task: str = "gym:CartPole-v1", seed: int = 0) -> None:
    """Fill the store as an actor does: the action of a last row is zero. Each seed has streams of its own."""
    vector = VectorEnvironment([partial(make, task, EnvironmentConfig())] * environments, seed)
    policy, rng = RandomPolicy(vector.action_space, seed), np.random.default_rng(seed)
    writer = Writer(store, [stream_id(0, seed, slot) for slot in range(environments)])
    actions: Rows | None = None
    for call in range(steps):
        rows = vector.step(actions)
        _, actions, _ = policy.act(None, rows, rows["is_first"], call)
        last = rows["is_last"]
        actions = {k: np.where(last.reshape(-1, *[1] * (v.ndim - 1)), 0, v).astype(v.dtype) for k, v in actions.items()}
        latents = {
            key: rng.integers(0, 9, (environments, *field.shape)).astype(field.dtype)
            for key, field in store.schema.latents.items()
        }
        writer.add(rows | actions | latents | {"version": np.full(environments, call // 50, np.int32)})
    writer.flush()
    vector.close()


def whole(source: Source) -> list[Rows]:
    """The fields of all whole episodes."""
    return [{k: one.rows[k] for k in source.schema.fields} for one in episodes(source, Found())]


def assert_same(some: list[Rows], others: list[Rows]) -> None:
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype, key
            np.testing.assert_array_equal(one[key], other[key], key)
