"""What MuJoCo says of Gymnasium's own models is left out; any other warning reaches the user."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import mujoco
from actors.envs import make
from actors.envs.mujoco_warnings import without_deprecations
make("gym:HalfCheetah-v5").close()
with without_deprecations():
    mujoco.get_mju_user_warning()("the simulation is unstable")
assert mujoco.get_mju_user_warning() is None
"""


def test_the_model_of_half_cheetah_is_read_in_silence(tmp_path: Path) -> None:
    environ = {"PYTHONPATH": str(Path(__file__).parents[2]), "MUJOCO_GL": "disabled"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "MuJoCo: the simulation is unstable\n")
    assert not list(tmp_path.iterdir())
