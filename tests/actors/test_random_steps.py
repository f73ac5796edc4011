"""The first steps of a run take random actions, without a call of the networks."""

from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch

from actors.actor import Actor
from actors.envs import make
from actors.vector import VectorEnvironment
from deploy.wiring.task import replay_schema
from learner.batch import to_device
from replay.memory.memory_store import MemoryStore
from tests.world_models.small_agent import CONFIG, build
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.policy import DreamerPolicy


class CountingPolicy(DreamerPolicy):
    """Counts the calls of its networks."""

    calls = 0

    def act(self, *arguments: Any) -> Any:
        self.calls += 1
        return super().act(*arguments)


def test_the_networks_do_not_see_random_steps_and_go_on_from_an_initial_state() -> None:
    after_step = []
    with closing(VectorEnvironment([partial(make, "gym:CartPole-v1")] * 2, 0)) as environments:
        spaces = environments.observation_space, environments.action_space
        model = ActingModel.sharing(build(*spaces))
        policy = CountingPolicy(model)
        store = MemoryStore(replay_schema(*spaces, CONFIG), length=3, capacity=100)
        actor = Actor(environments, policy, store, [0, 1], seed=0, random_steps=10)
        for _ in range(8):
            actor.step()
            after_step.append(policy.calls)
        actor.writer.flush()
    assert after_step == [0, 0, 0, 0, 0, 1, 2, 3]
    rows = store.read(0, 0, 8)
    assert (rows["stoch"][:5] == -1).all() and not rows["deter"][:5].any()
    assert (rows["stoch"][5:] >= 0).all() and rows["deter"][5:].any(-1).all()
    assert len(set(rows["action"][:5].tolist())) == 2

    sequences = {key: np.stack([rows[key][i : i + 3] for i in (0, 4, 5)]) for key in rows}
    start_of = {key: sequences[key][:, 0] for key in ("deter", "stoch")}
    start = to_device(sequences | start_of, *spaces, CONFIG.rssm.classes, torch.device("cpu")).start
    assert start.stoch.sum(-1).tolist() == [[0.0] * CONFIG.rssm.stoch] * 2 + [[1.0] * CONFIG.rssm.stoch]
    assert start.deter.any(-1).tolist() == [False, False, True]
