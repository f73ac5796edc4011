"""Which OpenGL MuJoCo draws with: EGL, else OSMesa, found out by really drawing in a process of its own."""

import os
import subprocess
import sys

from actors.environment import CannotDrawError

BACKENDS = {"egl": "libegl1 (and libgl1-mesa-dri where there is no GPU driver)", "osmesa": "libosmesa6"}
NONE = "disabled"

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


def choose_backend() -> dict[str, str]:
    """Set MUJOCO_GL, which child processes inherit, to the first backend that draws; returns why the others do not.

    A MUJOCO_GL that is set already is kept. Call it before MuJoCo is imported.
    """
    if os.environ.get("MUJOCO_GL"):
        return {}
    reasons = {}
    for name in BACKENDS:
        reasons[name] = try_backend(name)
        if not reasons[name]:
            os.environ["MUJOCO_GL"] = name
            return reasons
    os.environ["MUJOCO_GL"] = NONE
    return reasons


def no_renderer(reasons: dict[str, str]) -> CannotDrawError:
    """The error for a task that must draw where nothing can."""
    tried = (
        "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or f"MUJOCO_GL={os.environ.get('MUJOCO_GL')}"
    )
    packages = ", or ".join(f"{package} for MUJOCO_GL={name}" for name, package in BACKENDS.items())
    return CannotDrawError(
        f"MuJoCo cannot draw here ({tried}). Install the Debian package {packages}, and leave MUJOCO_GL unset: the one "
        "that works is found by itself. libosmesa6 needs neither a GPU nor a display."
    )
