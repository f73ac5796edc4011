"""Tasks by name: unknown ones, and environments of one's own in a file outside the project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.envs import make, task_names

ROOT = Path(__file__).parents[2]
MINE = """
import gymnasium, numpy as np
from gymnasium.spaces import Box, Dict, Discrete
class MyEnv(gymnasium.Env):
    observation_space = Dict({"image": Box(0, 255, (32, 32, 3), np.uint8), "speed": Box(-1, 1, (2,), np.float32)})
    action_space = Dict({"gear": Discrete(3), "steer": Box(-1, 1, (1,), np.float32)})
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.speed = 0, self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.look(), {}
    def step(self, action):
        self.time, self.speed = self.time + 1, np.clip(self.speed + 0.1 * action["steer"], -1, 1)
        return self.look(), float(action["gear"]), False, self.time >= 20, {}
    def look(self):
        return {"image": np.full((32, 32, 3), self.time, np.uint8), "speed": self.speed}
gymnasium.register(id="MyEnv-v0", entry_point=MyEnv)
"""
USE = """
from actors.conformance import check_environment
from actors.envs import make
environment = make({task!r})
print({{key: space.shape for key, space in environment.observation_space.items()}})
print({{key: (space.shape, space.classes) for key, space in environment.action_space.items()}})
print([str(finding) for finding in check_environment(environment, 100) if finding.severity == "error"])
"""


def use(folder: Path, task: str) -> subprocess.CompletedProcess[str]:
    """Run in `folder` the way an installed command does: with the project on the path, but not the folder."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    (folder / "script").mkdir(exist_ok=True)
    script = folder / "script" / "use.py"
    script.write_text(USE.format(task=task))
    return subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environ, capture_output=True, text=True, timeout=500
    )


def test_an_environment_of_ones_own_works_from_the_current_directory(tmp_path: Path) -> None:
    assert len(MINE.strip().splitlines()) <= 16  # with the imports: the promise is 15 lines or so
    (tmp_path / "my_module.py").write_text(MINE)
    done = use(tmp_path, "gym:my_module:MyEnv-v0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'image': (64, 64, 3), 'speed': (2,)}",
        "{'gear': ((), 3), 'steer': ((1,), 0)}",
        "[]",
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, ["there is no module 'my_module'", "PYTHONPATH"]),
        ("import gymnasium", ["did not register 'MyEnv-v0'", "gymnasium.register(id='MyEnv-v0'"]),
        ("import a_package_nobody_has", ["No module named 'a_package_nobody_has'"]),
        (MINE.replace("Discrete(3)", "gymnasium.spaces.Text(3)"), ["action space 'gear' is a Text", "no fixed size"]),
        (MINE.replace('"speed"', '"reward"'), ["observation keys ['reward'] are reserved"]),
    ],
)
def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, source: str | None, words: list[str]) -> None:
    if source is not None:
        (tmp_path / "my_module.py").write_text(source)
    done = use(tmp_path, "gym:my_module:MyEnv-v0")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert all(word in last for word in words), last


@pytest.mark.parametrize(
    ("task", "nearest"),
    [
        ("dmc_walker_wlk", "dmc_walker_walk"),
        ("dmc_cartpole_swing_up", "dmc_cartpole_swingup"),
        ("CartPole-v1", "gym:CartPole-v1"),
        ("gym:CartPol-v1", "gym:CartPole-v1"),
        ("gym:Cartpole-v1", "gym:CartPole-v1"),
    ],
)
def test_an_unknown_task_names_the_nearest(task: str, nearest: str) -> None:
    with pytest.raises(ValueError, match="Unknown task") as caught:
        make(task)
    assert repr(task) in str(caught.value) and nearest in str(caught.value)


def test_names_hold_both_suites() -> None:
    names = task_names()
    assert {"gym:CartPole-v1", "dmc_walker_walk", "dmc_cup_catch", "dmc_point_mass_easy"} <= set(names)


@pytest.mark.parametrize("task", ["dmc_cup_catch", "dmc_ball_in_cup_catch", "dmc_humanoid_CMU_run"])
def test_tasks_of_two_word_domains(task: str) -> None:
    environment = make(task)
    assert environment.reset(0).observation.keys() == environment.observation_space.keys()
    environment.close()


def test_a_suite_is_imported_only_when_it_is_asked_for() -> None:
    code = (
        "import sys; from actors.envs import make; import actors.vector, actors.conformance, actors.evaluation\n"
        "assert not {'gymnasium', 'mujoco', 'dm_control', 'torch', 'ray'} & sys.modules.keys(), 'too early'\n"
        "make('gym:CartPole-v1').reset(0)\n"
        "print({'mujoco', 'dm_control', 'torch', 'ray', 'redis', 'fastapi'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr
