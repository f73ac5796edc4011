"""The control suite's own: seeds, pixels, and what MuJoCo draws with."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.envs.rendering import BACKENDS, try_backend

ROOT = Path(__file__).parents[2]
DRAW = """
import os
from actors.config import EnvironmentConfig
from actors.envs import make
environment = make("dmc_cartpole_swingup", EnvironmentConfig(observations={observations!r}))
environment.reset(0)
print(os.environ["MUJOCO_GL"], sorted(environment.observation_space))
environment.render()
"""


def draw(observations: str, **environ: str) -> subprocess.CompletedProcess[str]:
    bare = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", DRAW.format(observations=observations)],
        cwd=ROOT,
        env=bare | environ,
        capture_output=True,
        text=True,
        timeout=500,
    )


NO_EGL = {"__EGL_VENDOR_LIBRARY_DIRS": os.devnull, "__EGL_VENDOR_LIBRARY_FILENAMES": os.devnull}


@pytest.fixture(scope="module")
def working() -> list[str]:
    return [name for name in BACKENDS if not try_backend(name)]


def test_the_seed_alone_determines_the_start() -> None:
    """Whatever was played before: the environment is made once and reseeded, not made anew."""
    fresh, used = make("dmc_reacher_easy"), make("dmc_reacher_easy")
    for seed in (3, 4):
        used.reset(seed)
        for _ in range(5):
            used.step({"action": np.ones(2, np.float32)})
    one, other = fresh.reset(9), used.reset(9)
    for _ in range(20):
        for key, value in one.observation.items():
            np.testing.assert_array_equal(value, other.observation[key])
        assert one.reward == other.reward
        action = {"action": np.full(2, 0.3, np.float32)}
        one, other = fresh.step(action), used.step(action)


def test_pixels_are_drawn_with_whatever_works(working: list[str]) -> None:
    if not working:
        pytest.skip("neither EGL nor OSMesa draws here; install libosmesa6 to run this")
    done = draw("both")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{working[0]} ['image', 'position', 'velocity']"
    assert done.stderr == ""


def test_osmesa_is_taken_where_egl_fails(working: list[str]) -> None:
    if "osmesa" not in working:
        pytest.skip("OSMesa does not draw here; install libosmesa6 to run this")
    done = draw("pixels", **NO_EGL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "osmesa ['image']"
    assert done.stderr == ""


def test_where_nothing_draws_pixels_fail_with_the_package_and_vectors_work() -> None:
    pixels, vectors = (draw(observations, MUJOCO_GL="disabled") for observations in ("pixels", "vectors"))
    assert pixels.returncode == 1
    assert vectors.stdout.strip() == "disabled ['position', 'velocity']"
    for done in (pixels, vectors):  # the vectors' video cannot be drawn either
        last = done.stderr.strip().splitlines()[-1]
        assert "MuJoCo cannot render here" in last and "libosmesa6" in last and "libegl1" in last


def test_a_chosen_backend_that_fails_is_explained() -> None:
    done = draw("vectors", MUJOCO_GL="egl", **NO_EGL)
    assert done.returncode == 1
    assert "MuJoCo cannot render here (MUJOCO_GL=egl)" in done.stderr.strip().splitlines()[-1]


def test_fast_rendering_shows_the_same_scene(working: list[str]) -> None:
    if not working:
        pytest.skip("neither EGL nor OSMesa draws here; install libosmesa6 to run this")
    pictures = []
    for fast in (False, True):
        environment = make("dmc_walker_walk", EnvironmentConfig(observations="pixels", fast_rendering=fast))
        pictures.append(environment.reset(0).observation["image"].astype(float))
        environment.close()
    assert pictures[0].shape == (64, 64, 3)
    assert 0 < abs(pictures[0] - pictures[1]).mean() < 20
