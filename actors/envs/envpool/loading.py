"""Imports envpool, whose parts are programs of their own: what each needs of the system, and what it writes."""

import ctypes
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Any

from actors.environment import CannotDrawError
from actors.faults import described

GL = "libOpenGL.so.0"
"""MuJoCo in envpool looks OpenGL's functions up in the process as a whole, and ends it if they are not there."""
QT = "libqt5gui5 libqt5core5a"
"""The Debian packages that Procgen needs; libqt5gui5t64 and libqt5core5t64 from Debian 13 and Ubuntu 24.04 on."""
DRAWS = "NEXUS_ENVPOOL_DRAWS"
"""An environment variable, which child processes inherit: whether envpool has been seen to draw here."""

_in_order: list[str] = []
"""Libraries that were there before envpool."""
_renderers: dict[str, Any] = {}
"""An environment of each part that has drawn."""

_DRAW = f"""
import ctypes
ctypes.CDLL({GL!r}, mode=ctypes.RTLD_GLOBAL)
import envpool
environment = envpool.make_gymnasium("CartpoleBalance-v1", from_pixels=True, render_width=16, render_height=16)
assert environment.reset()[0].max() > 0, "the picture is black"
"""


@cache
def envpool() -> ModuleType:
    """The package, imported after the libraries it needs."""
    if "envpool" not in sys.modules:
        with suppress(OSError):  # require_drawing says what is missing
            ctypes.CDLL(GL, mode=ctypes.RTLD_GLOBAL)
            _in_order.append(GL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import envpool as package
    return package


def make_spec(name: str, options: Mapping[str, Any]) -> Any:
    """How envpool describes an environment. ValueError if a library is missing, or if there are no such options."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bounds beyond float32
            spec = envpool().make_spec(name, **options)
    except ImportError as error:
        remedy = f"apt-get install {QT}" if "Qt" in str(error) else "reinstall envpool"
        raise ValueError(
            f"{name} of envpool cannot be loaded: {described(error.__cause__ or error)}; {remedy}."
        ) from error
    except Exception as error:
        raise ValueError(f"{name} of envpool cannot be made: {described(error)}.") from error
    _keep_warnings_out_of_files()
    return spec


def _keep_warnings_out_of_files() -> None:
    """Have the MuJoCo of each part of envpool print its warnings: by default they go to MUJOCO_LOG.TXT in whichever
    directory is current."""
    printer = ctypes.cast(ctypes.CDLL(None).puts, ctypes.c_void_p).value
    for name, module in list(sys.modules.items()):
        if name.startswith("envpool.") and (file := getattr(module, "__file__", None)) and file.endswith(".so"):
            with suppress(OSError, ValueError):  # not all of them hold MuJoCo
                ctypes.c_void_p.in_dll(ctypes.CDLL(file), "mju_user_warning").value = printer


def require_drawing() -> None:
    """CannotDrawError unless envpool's MuJoCo can draw; where it cannot, it ends the process, so another one tries."""
    envpool()  # after its libraries, unless something else was earlier
    reason = "" if os.environ.get(DRAWS) == "yes" else _cannot_draw()
    if not reason and not _in_order:
        raise CannotDrawError(
            "envpool's MuJoCo cannot draw in this process: something imported envpool before Nexus could load "
            f"{GL}. Import actors.envs.envpool first, or leave the import of envpool to it."
        )
    if reason:
        raise CannotDrawError(
            f"envpool's MuJoCo cannot draw here ({reason}). Install the Debian packages libopengl0 and libegl1 (with "
            "libgl1-mesa-dri if there is no GPU driver), or libosmesa6."
        )


def keep_renderer(part: str, name: str) -> None:
    """Make a small environment of a part of envpool that draws in this process until it ends.

    With its last renderer, a part ends the connection to the display, and opens it again from several threads at once
    for the next ones. A process has crashed in such moments; while this renderer is there, there are none.
    """
    if part not in _renderers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept = envpool().make_gymnasium(name, from_pixels=True, render_width=16, render_height=16)
        kept.reset()
        _renderers[part] = kept


@cache
def _cannot_draw() -> str:
    try:
        done = subprocess.run([sys.executable, "-c", _DRAW], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "drawing one picture took more than 120 s"
    if done.returncode == 0:
        os.environ[DRAWS] = "yes"
        return ""
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1] if lines else f"the process ended with code {done.returncode}"
