"""Which OpenGL MuJoCo draws with: EGL, else OSMesa, found out by really drawing in a process of its own."""

import os
import re
import subprocess
import sys
import warnings
from importlib.abc import MetaPathFinder
from typing import Any

from actors.environment import CannotDrawError

BACKENDS = {"egl": "libegl1 (and libgl1-mesa-dri where there is no GPU driver)", "osmesa": "libosmesa6"}
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
    """Empty if MuJoCo draws with this backend, else why not.

    It is tried in a subprocess, as a failed import of OpenGL cannot be undone.
    """
    environ = os.environ | {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _DRAW], env=environ, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return f"drawing one picture took more than {timeout:.0f} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    errors = [line for line in lines if not line.startswith((" ", "Exception ignored", "Traceback"))]
    return errors[0] if errors else f"the process ended with code {done.returncode}"


def choose_backend() -> None:
    """Set MUJOCO_GL, which child processes inherit, to the first backend that draws.

    A MUJOCO_GL that is set already is kept. Call it before MuJoCo is imported.
    """
    warnings.filterwarnings("ignore", module=r"glfw\b")  # what cannot be drawn is said in our own words
    if os.environ.get("MUJOCO_GL"):
        return
    for name in BACKENDS:
        _reasons[name] = try_backend(name)
        if not _reasons[name]:
            os.environ["MUJOCO_GL"] = name
            return
    os.environ["MUJOCO_GL"] = NONE


class _BeforeMujoco(MetaPathFinder):
    """Finds no module: it chooses the backend when somebody's own code imports MuJoCo for the first time."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name in ("mujoco", "dm_control"):
            sys.meta_path.remove(self)
            choose_backend()


def choose_when_imported() -> None:
    """Let whoever imports MuJoCo first find a backend chosen: only then trying them is worth its second or two."""
    if "mujoco" not in sys.modules and not any(isinstance(finder, _BeforeMujoco) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeMujoco())


def is_about_drawing(error: BaseException) -> bool:
    """Whether MuJoCo, or what draws for it, has raised this because nothing can be drawn."""
    return "MUJOCO_GL" in str(error) or (
        "mujoco" in sys.modules and bool(_SIGNS.search(f"{type(error).__module__} {error}"))
    )


def no_renderer() -> CannotDrawError:
    """The error for a task that must draw where nothing can."""
    tried = "; ".join(f"{name}: {reason}" for name, reason in _reasons.items() if reason)
    tried = tried or f"MUJOCO_GL={os.environ.get('MUJOCO_GL')}"
    packages = ", or ".join(f"{package} for MUJOCO_GL={name}" for name, package in BACKENDS.items())
    return CannotDrawError(
        f"MuJoCo cannot draw here ({tried}). Install the Debian package {packages}, and leave MUJOCO_GL unset: the one "
        "that works is found by itself. libosmesa6 needs neither a GPU nor a display."
    )
