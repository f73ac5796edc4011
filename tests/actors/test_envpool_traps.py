"""What envpool does to a process: libraries that it looks for, files that it writes, and how it ends."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.actors.envpool_here import what_drawing_lacks, what_procgen_lacks

if not find_spec("envpool"):
    pytest.skip("envpool is a dependency on Linux alone", allow_module_level=True)

ROOT = Path(__file__).parents[2]
PIXELS = """
from actors.config import EnvironmentConfig
from actors.envs import make_pool
import numpy as np
config = EnvironmentConfig(observations="pixels", image_size=(16, 16))
"""


def python(code: str, folder: Path, *before: str, limit: float = 500.0) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "NEXUS_ENVPOOL_DRAWS"}
    environ["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        # If envpool ends the process with a signal, its report says where.
        [*before, sys.executable, "-X", "faulthandler", "-W", "error", "-c", code],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=limit,
    )  # fmt: skip


def without(library: str) -> list[str]:
    """A command that runs another one on a machine without a library; skips where that is not possible."""
    found = [path for folder in ("/lib", "/usr/lib") for path in Path(folder).glob(f"*/{library}")]
    if not found or os.geteuid() or not shutil.which("unshare"):
        pytest.skip(f"this needs root and {library}")
    hide = f'mount --bind /dev/null {found[0].resolve()} && exec "$@"'
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    return ["unshare", "-m", "bash", "-c", hide, "bash"]


def test_drawing_resets_and_the_end_of_the_process_are_clean(tmp_path: Path) -> None:
    if reason := what_drawing_lacks():
        pytest.skip(reason)
    done = python(
        PIXELS + """
pool = make_pool("envpool:CartpoleBalance-v1", config, 3, 2)
for seed in range(3):
    images = pool.reset([seed] * 3).observation["image"]
    images = pool.step({"action": np.zeros((3, 1), np.float32)}, np.zeros(3, bool)).observation["image"]
other = make_pool("envpool:WalkerWalk-v1", config, 2, 2)
other.reset([1, 2])
print(images.shape, images.max() > 0, other.render(1).shape)
""", tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "(3, 16, 16, 3) True (16, 16, 3)\n", "")
    assert not list(tmp_path.iterdir())


def test_warnings_of_mujoco_are_printed_and_leave_no_file(tmp_path: Path) -> None:
    done = python(
        """
from actors.config import EnvironmentConfig
from actors.envs import make_pool
import numpy as np
pool = make_pool("envpool:CartpoleSwingup-v1", EnvironmentConfig(), 2)
pool.reset([1, 2])
pool._simulation.step(np.full((2, 1), np.nan), np.zeros(2, bool))
""", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Nan, Inf or huge value in CTRL at ACTUATOR 0" in done.stdout
    assert not list(tmp_path.iterdir())


def test_without_qt_procgen_says_what_to_install(tmp_path: Path) -> None:
    if missing := what_procgen_lacks():
        assert "apt-get install libqt5gui5 libqt5core5a" in missing
        return
    done = python("from actors.envs import make\nmake('procgen_coinrun')", tmp_path, *without("libQt5Gui.so.5"))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ValueError: CoinrunHard-v0 of envpool cannot be loaded" in last and "libQt5Gui.so.5" in last
    assert "apt-get install libqt5gui5 libqt5core5a" in last


def test_without_opengl_only_drawing_is_refused(tmp_path: Path) -> None:
    code = """
import sys
pool = make_pool("envpool:CartpoleBalance-v1", EnvironmentConfig(), 1)
print(pool.reset([1]).observation.keys())
make_pool("envpool:CartpoleBalance-v1", config, 1)
"""
    done = python(PIXELS + code, tmp_path, *without("libOpenGL.so.0"))
    assert "position" in done.stdout
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "envpool's MuJoCo cannot draw here" in last and "libopengl0" in last


def test_drawing_is_refused_if_envpool_came_first(tmp_path: Path) -> None:
    """It would end the process."""
    if reason := what_drawing_lacks():
        pytest.skip(reason)
    done = python("import envpool" + PIXELS + 'make_pool("envpool:CartpoleBalance-v1", config, 1)', tmp_path)
    assert done.returncode == 1
    assert "something imported envpool before Nexus" in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_hundred_environments_with_pixels(tmp_path: Path) -> None:
    if reason := what_drawing_lacks():
        pytest.skip(reason)
    done = python(
        PIXELS + """
pool = make_pool("envpool:CartpoleBalance-v1", config, 100)
pool.reset(range(100))
for _ in range(2):
    images = pool.step({"action": np.zeros((100, 1), np.float32)}, np.zeros(100, bool)).observation["image"]
print(images.shape, (images.reshape(100, -1).max(1) > 0).all())
""", tmp_path, limit=170.0,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "(100, 16, 16, 3) True\n", "")
