"""MuJoCo in an environment of one's own: what it draws with is chosen before it is imported, whoever imports it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.runs import environment

MODULE = """
import gymnasium, mujoco, numpy as np
from gymnasium.spaces import Box, Discrete

class Ball(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space, action_space = Box(0, 255, (16, 16, 3), np.uint8), Discrete(2)
    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.model = mujoco.MjModel.from_xml_string(
            '<mujoco><worldbody><light pos="0 0 3"/><geom size="1 1 1" rgba="1 0 0 1"/></worldbody></mujoco>')
        self.data = mujoco.MjData(self.model)
        self.renderer = mujoco.Renderer(self.model, 16, 16)
    def render(self):
        mujoco.mj_forward(self.model, self.data)
        self.renderer.update_scene(self.data)
        return self.renderer.render()
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.render(), {}
    def step(self, action):
        self.time += 1
        return self.render(), 1.0, self.time >= 10, False, {}

gymnasium.register("Ball-v0", Ball)
"""


def check(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    (folder / "drawn.py").write_text(MODULE)
    bare = {
        key: value for key, value in environment().items() if key not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    }
    command = [sys.executable, "-m", "deploy.cli", "check-env", "gym:drawn:Ball-v0", "--steps", "20"]
    return subprocess.run(command, cwd=folder, env=bare | environ, capture_output=True, text=True, timeout=500)


def test_a_backend_is_chosen_before_a_module_of_ones_own_imports_mujoco(tmp_path: Path) -> None:
    done = check(tmp_path)
    if "MuJoCo cannot render here (egl: " in done.stderr:  # both were tried
        pytest.skip("neither EGL nor OSMesa draws here; install libosmesa6 to run this")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 errors, 0 warnings" in done.stdout


@pytest.mark.parametrize("backend", ["glfw", "disabled", "nonsense"])
def test_what_was_asked_for_and_does_not_draw_is_one_message(tmp_path: Path, backend: str) -> None:
    done = check(tmp_path, MUJOCO_GL=backend)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("Task 'gym:drawn:Ball-v0'")
    assert f"MuJoCo cannot render here (MUJOCO_GL={backend})" in line and "leave MUJOCO_GL unset" in line
