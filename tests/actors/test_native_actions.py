"""Actions of a loaded policy are the environment's own."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from actors.config import EnvironmentConfig
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.wrappers import NormalizeActions
from actors.native_actions import native_action
from actors.policy import load_policy
from deploy.wiring.config import RunConfig
from deploy.wiring.policy_files import model_document
from learner.checkpoint import Checkpoints
from tests.integration.runs import TINY
from world_models.dreamer.acting import ActingModel
from world_models.parameters import as_arrays
from world_models.space import Space

NESTED = spaces.Dict(
    stick=Box(-2, 2, (2,), np.float32),
    arm=spaces.Dict(button=Discrete(3, start=5), steps=Box(0, 10, (1,), np.int32)),
    pair=spaces.Tuple((MultiDiscrete([2, 3]), MultiBinary(4))),
)


class Recorder(gymnasium.Env):
    observation_space = Box(-1, 1, (3,), np.float32)

    def __init__(self, action_space: gymnasium.Space) -> None:
        self.action_space = action_space

    def step(self, action: Any) -> Any:
        self.taken = action
        return np.zeros(3, np.float32), 0.0, False, False, {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(3, np.float32), {}


@pytest.mark.parametrize("space", [NESTED, Box(-2, 2, (1,), np.float32), Box(0, np.inf, (2,), np.float32), Discrete(2)])
def test_it_is_what_the_adapter_hands_to_the_environment(space: gymnasium.Space) -> None:
    raw = Recorder(space)
    environment = NormalizeActions(GymnasiumEnvironment(raw, "any", EnvironmentConfig()))
    environment.reset(0)
    document = json.loads(json.dumps({key: space.to_json() for key, space in environment.action_space.items()}))
    known, rng = {key: Space.from_json(fields) for key, fields in document.items()}, np.random.default_rng(0)
    for _ in range(5):
        action = {
            key: rng.integers(0, space.classes, space.shape).astype(np.int32)
            if space.discrete else rng.normal(0, 2, space.shape).astype(np.float32)
            for key, space in environment.action_space.items()
        }  # fmt: skip
        environment.step(action)
        native = native_action(known, action)
        assert space.contains(native), native
        assert repr(native) == repr(raw.taken)


def test_a_loaded_policy_acts_in_the_environments_bounds(tmp_path: Path) -> None:
    import tyro

    config = tyro.cli(RunConfig, args=TINY[2:])
    environment = NormalizeActions(GymnasiumEnvironment(Recorder(NESTED), "any", EnvironmentConfig()))
    model = ActingModel(environment.observation_space, environment.action_space, config.model)
    document = model_document(config, environment.observation_space, environment.action_space)
    folder = Checkpoints(tmp_path).save("best", {"model": as_arrays(model)}, {"config": document})
    policy = load_policy(folder)
    for observation in (np.zeros(3), {"vector": np.ones(3)}):
        assert NESTED.contains(policy(observation))
    assert policy(np.zeros(3), raw=True).keys() == environment.action_space.keys()
    with pytest.raises(ValueError, match="has shape"):
        policy(np.zeros(4))
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(
        ValueError, match=r"model\.safetensors is damaged: .* No other checkpoint of this run is intact\.$"
    ):
        load_policy(folder)
    other = Checkpoints(tmp_path).save(7, {"model": as_arrays(model)}, {"config": document})
    with pytest.raises(ValueError, match=rf"model\.safetensors is damaged: .* Load an intact one: {other}$"):
        load_policy(folder)
    load_policy(other)
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        load_policy(folder)
