"""SAC's replay of plain arrays."""

import numpy as np
import pytest

pytest.importorskip("ray.rllib", reason='needs RLlib: pip install "nexus-worlds[baselines]"')
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from deploy.distributed.baselines.replay import Replay


def piece(first: int, steps: int, terminated: bool = False) -> SingleAgentEpisode:
    """Observation n is followed by action n, reward n and observation n + 1."""
    numbers = np.arange(first, first + steps + 1, dtype=np.float32)
    return SingleAgentEpisode(
        observations=list(numbers[:, None]), actions=list(numbers[:-1, None]), rewards=list(numbers[:-1]),
        terminated=terminated, len_lookback_buffer=0,
    )  # fmt: skip


def test_steps_keep_what_belongs_together_and_the_oldest_make_room() -> None:
    replay = Replay(4, seed=0)
    replay.add(piece(0, 3, terminated=True))
    replay.add(piece(10, 2))
    held = replay.arrays()
    assert held["obs"].ravel().tolist() == [1, 2, 10, 11]
    assert held["new_obs"].ravel().tolist() == [2, 3, 11, 12]
    assert held["rewards"].tolist() == [1, 2, 10, 11]
    assert held["terminateds"].tolist() == [False, True, False, False]
    batch = replay.sample(100)
    assert set(np.asarray(batch["rewards"]).tolist()) == {1, 2, 10, 11}
    assert np.array_equal(np.asarray(batch["new_obs"]), np.asarray(batch["obs"]) + 1)


def test_a_restored_replay_goes_on() -> None:
    replay, again = Replay(4, seed=0), Replay(4, seed=0)
    replay.add(piece(0, 6))
    again.load(replay.arrays())
    for one in (replay, again):
        one.add(piece(20, 1))
    assert len(again) == 4 and np.array_equal(again.arrays()["obs"], replay.arrays()["obs"])
