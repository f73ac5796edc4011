"""Environments as RLlib gets them: the seeds, scores and frames of a training run, one array in, one action out."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from actors.batch_environment import Episode
from actors.config import EnvironmentConfig
from actors.envs import make
from actors.vector import VectorEnvironment
from world_models.space import Space

pytest.importorskip("ray.rllib", reason='needs RLlib: pip install "nexus-worlds[baselines]"')
from deploy.distributed.baselines.environment import BaselineEnvironment, Layout

IMAGE = Space(dtype=np.dtype(np.uint8), shape=(4, 4, 3))
VECTOR = Space(dtype=np.dtype(np.float32), shape=(2, 2))
CLASSES = Space(dtype=np.dtype(np.int32), shape=(), classes=3)


def test_episodes_are_those_of_a_training_run() -> None:
    config = EnvironmentConfig(action_repeat=2)
    ended: list[Episode] = []
    environment = BaselineEnvironment("gym:CartPole-v1", partial(make, "gym:CartPole-v1", config), 7, 3, ended.append)
    reference = VectorEnvironment([partial(make, "gym:CartPole-v1", config)], 7, [3])
    rewards = 0.0
    for episode in range(2):
        observation, _ = environment.reset(seed=episode)
        assert np.array_equal(observation, reference.step()["vector"][0])
        over = False
        while not over:
            observation, reward, terminated, truncated, _ = environment.step(np.int64(1))
            row = reference.step({"action": np.ones(1, np.int32)})
            assert np.array_equal(observation, row["vector"][0]) and observation.dtype == np.float32
            assert (reward, terminated, truncated) == (row["reward"][0], row["is_last"][0], False)
            over, rewards = terminated, rewards + reward
    assert ended == reference.finished() and sum(episode.score for episode in ended) == rewards
    assert environment.steps * 2 == sum(episode.length for episode in ended) and environment.frames_per_step == 2
    environment.close()
    reference.close()


def test_a_time_limit_truncates_and_an_open_episode_can_be_broken_off() -> None:
    ended: list[Episode] = []
    make_one = partial(make, "gym:Pendulum-v1", EnvironmentConfig(time_limit=3))
    environment = BaselineEnvironment("gym:Pendulum-v1", make_one, 0, 0, ended.append)
    for _ in range(2):
        environment.reset()
        environment.step(np.zeros(1))
    for _ in range(2):
        _, _, terminated, truncated, _ = environment.step(np.zeros(1))
    assert (terminated, truncated, environment.episode, len(ended)) == (False, True, 1, 1)
    environment.close()


def test_vectors_and_classes_are_joined_and_images_scaled() -> None:
    layout = Layout("t", {"b": VECTOR, "a": CLASSES}, {"action": CLASSES})
    rows = {"a": np.array([2]), "b": np.array([[[1.0, 2], [3, 4]]], np.float32)}
    assert layout.observation(rows).tolist() == [[0, 0, 1, 1, 2, 3, 4]]
    assert layout.action(np.array([1, 2]))["action"].tolist() == [1, 2]
    pictures = Layout("t", {"image": IMAGE}, {"stick": Space(dtype=np.dtype(np.float32), shape=(2,))})
    assert (
        pictures.observation({"image": np.full((1, 4, 4, 3), 255, np.uint8)}).tolist() == np.ones((1, 4, 4, 3)).tolist()
    )
    assert pictures.action(np.zeros((5, 2)))["stick"].shape == (5, 2)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        ({"image": IMAGE, "vector": VECTOR}, {"action": CLASSES}, "vectors alone, or one image alone"),
        ({"vector": VECTOR}, {"action": CLASSES, "stick": VECTOR}, "take exactly one"),
        ({"vector": VECTOR}, {"keys": Space(dtype=np.dtype(np.int32), shape=(2,), classes=3)}, "several discrete"),
    ],
)
def test_what_baselines_cannot_learn_is_refused(observation: Any, action: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout("t", observation, action)
