"""Chooses MuJoCo's OpenGL backend: EGL, else OSMesa, whichever renders an image in a subprocess."""

import os
import re
import subprocess
import sys
import warnings
from importlib.abc import MetaPathFinder
from typing import Any

from actors.environment import CannotDrawError

BACKENDS = {"egl": "libegl1 (and libgl1-mesa-dri if there is no GPU driver)", "osmesa": "libosmesa6"}
NONE = "disabled"
_SIGNS = re.compile(r"OpenGL|GLContext|opengl_context|OSMesa|\bE?GL\b", re.IGNORECASE)
_reasons: dict[str, str] = {}

_DRAW = """
import mujoco
scene = '<mujoco><worldbody><light pos="0 0 3"/><geom size="1 1 1" rgba="1 0 0 1"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(scene)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data)
assert renderer.render().max() > 0, "the picture is black"
"""


def try_backend(name: str, timeout: float = 60.0) -> str:
    """Empty if MuJoCo can render with this backend, else the reason why not.

    The backend is tried in a subprocess, since a failed import of OpenGL cannot be undone.
    """
    environ = os.environ | {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _DRAW], env=environ, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return f"rendering one image took more than {timeout:.0f} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    errors = [line for line in lines if not line.startswith((" ", "Exception ignored", "Traceback"))]
    return errors[0] if errors else f"the process ended with code {done.returncode}"


def choose_backend() -> None:
    """Set MUJOCO_GL, which child processes inherit, to the first backend that works.

    A MUJOCO_GL that is already set is kept. Call this before MuJoCo is imported.
    """
    warnings.filterwarnings("ignore", module=r"glfw\b")  # we report rendering failures ourselves
    if os.environ.get("MUJOCO_GL"):
        return
    for name in BACKENDS:
        _reasons[name] = try_backend(name)
        if not _reasons[name]:
            os.environ["MUJOCO_GL"] = name
            return
    os.environ["MUJOCO_GL"] = NONE


class _BeforeMujoco(MetaPathFinder):
    """An import hook that finds no module: it chooses the backend when MuJoCo is first imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name in ("mujoco", "dm_control"):
            sys.meta_path.remove(self)
            choose_backend()


def choose_when_imported() -> None:
    """Choose the backend when MuJoCo is first imported, and not before: trying them takes a second or two."""
    if "mujoco" not in sys.modules and not any(isinstance(finder, _BeforeMujoco) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeMujoco())


def is_about_drawing(error: BaseException) -> bool:
    """Whether MuJoCo or its OpenGL backend raised this because it cannot render."""
    return "MUJOCO_GL" in str(error) or (
        "mujoco" in sys.modules and bool(_SIGNS.search(f"{type(error).__module__} {error}"))
    )


def no_renderer() -> CannotDrawError:
    """The error for a task that needs rendering when no backend works."""
    tried = "; ".join(f"{name}: {reason}" for name, reason in _reasons.items() if reason)
    tried = tried or f"MUJOCO_GL={os.environ.get('MUJOCO_GL')}"
    packages = ", or ".join(f"{package} for MUJOCO_GL={name}" for name, package in BACKENDS.items())
    return CannotDrawError(
        f"MuJoCo cannot render here ({tried}). Install the Debian package {packages}, and leave MUJOCO_GL unset: a "
        "backend that works is chosen automatically. libosmesa6 needs neither a GPU nor a display."
    )
