"""Environments registered with `ray.tune.register_env`, made without a Ray that runs."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.conformance import check_environment
from actors.envs import make
from actors.policy import load_policy
from tests.integration.runs import NEXUS, command, run

pytest.importorskip("ray.tune", reason='needs ray.tune: pip install "nexus-worlds[tune]"')
LIGHTS = """
import gymnasium, numpy as np
from gymnasium.spaces import Box, Discrete
from ray.tune import register_env

class Lights(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    action_space = Discrete(2)
    def __init__(self, size, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = Box(-1, 1, (size,), np.float32)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.x = 0, self.np_random.uniform(-1, 1, self.observation_space.shape).astype(np.float32)
        return self.x, {}
    def step(self, action):
        self.time += 1
        return self.x, float(action == (self.x[0] > 0)), False, self.time >= 10, {}
    def render(self):
        return np.full((32, 32, 3), 12 * self.time, np.uint8)

def indexed(config):
    assert (config.worker_index, config.vector_index) == (0, 0)
    return Lights(**config)

register_env("indexed", indexed)
register_env("strict", lambda config: Lights(config["size"]))
register_env("lacking", lambda config: Lights())
register_env("vector", lambda config: gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))
register_env("number", lambda config: 3)
"""
TWO_AGENTS = """
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune import register_env

class Pair(MultiAgentEnv):
    agents = possible_agents = ["left", "right"]

register_env("pair", lambda config: Pair())
"""
SIZE_5 = EnvironmentConfig(env_config='{"size": 5}')


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module in the current directory that registers the environments above."""
    name = f"lights_of_{request.node.name.partition('[')[0]}"
    (tmp_path / f"{name}.py").write_text(LIGHTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return name


def test_the_creator_gets_the_environments_configuration(module: str) -> None:
    environment = make(f"rllib:{module}:indexed", SIZE_5)
    assert environment.observation_space["vector"].shape == (5,)
    assert not [str(finding) for finding in check_environment(environment, 100) if finding.severity == "error"]
    environment.close()


def test_a_name_that_this_process_has_registered_needs_no_module(module: str) -> None:
    make(f"rllib:{module}:indexed", SIZE_5).close()
    make("rllib:indexed", SIZE_5).close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("strict", ["in <lambda>: KeyError: 'size'", """--environment.env-config '{"size": "..."}'"""]),
        ("lacking", ["<lambda> needs the argument 'size'", "pass it in the creator"]),
        ("vector", ["is a vector of environments", "a single one"]),
        ("number", ["the creator returned int", "no gymnasium.Env"]),
        ("nosuch", ["did not register 'nosuch' with Ray", "'strict'", "register_env('nosuch', creator)"]),
    ],
)
def test_what_is_wrong_with_a_creator_is_said(module: str, name: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        make(f"rllib:{module}:{name}")
    assert all(word in str(caught.value) for word in [module, *words]), str(caught.value)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("rllib:nobody_registered_this", "rllib:my_module:nobody_registered_this"),
        ("rllib:", "names no environment"),
        ("rllib:no_such_module:a", "there is no module 'no_such_module'"),
        ("rlib:module:a", "rllib:my_module:my_env"),
    ],
)
def test_a_name_that_cannot_be_found_names_the_remedy(task: str, words: str) -> None:
    with pytest.raises(ValueError, match="rllib:") as caught:
        make(task)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "{", '{"size": NaN}', "5"])
def test_env_config_must_be_a_json_object(text: str) -> None:
    with pytest.raises(ValueError, match="must be a JSON object") as caught:
        EnvironmentConfig(env_config=text)
    assert repr(text) in str(caught.value)


def test_env_config_is_compared_by_its_values_and_reaches_no_other_suite() -> None:
    assert EnvironmentConfig(env_config='{"b":2,\n"a":[1]}') == EnvironmentConfig(env_config='{"a": [1], "b": 2}')
    with pytest.raises(ValueError, match="reaches only rllib: tasks"):
        make("gym:CartPole-v1", SIZE_5)


def nexus(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, [*NEXUS, *arguments])


def test_commands_take_such_a_task(tmp_path: Path) -> None:
    (tmp_path / "lights.py").write_text(LIGHTS)
    values = json.dumps({"size": 3, "render_mode": "rgb_array"})
    done = nexus(tmp_path, "check-env", "rllib:lights:indexed", "--steps", "50", "--env-config", values)
    assert done.returncode == 0 and "0 errors, 0 warnings" in done.stdout, done.stdout + done.stderr
    task = ["rllib:lights:indexed", tmp_path / "run", "--environment.env-config", values, "--mode", "inline"]
    done = run(tmp_path, command(*task, "--learner.train-ratio", "8", "--frames", "100"))  # type: ignore[arg-type]
    assert done.returncode == 0 and str(tmp_path / "run" / "videos" / "best.mp4") in done.stdout, (
        done.stdout + done.stderr
    )
    assert load_policy(tmp_path / "run")(np.zeros(3, np.float32)) in (0, 1)


def test_several_agents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text(TWO_AGENTS)
    done = nexus(tmp_path, "check-env", "rllib:agents:pair")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "has several agents" in done.stderr, done.stderr
