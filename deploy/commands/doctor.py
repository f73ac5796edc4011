"""`nexus doctor`: what works on this machine, what does not, and how to fix it.

Every check does the real thing: computes with torch, renders with MuJoCo, starts Ray, encodes a video. Whatever can
crash or hang runs in its own process, with a time limit.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from actors.envs import SUITES
from actors.envs.rendering import BACKENDS, try_backend
from deploy.commands.parsing import parse
from deploy.exit_codes import FAILED

_PACKAGES = (
    "torch",
    "numpy",
    "ray",
    "gymnasium",
    "dm_control",
    "mujoco",
    "safetensors",
    "tensorboard",
    "matplotlib",
    "redis",
)
_GB = 1e9

_TORCH = """
import torch
x = torch.randn(256, 256)
assert torch.isfinite(x @ x).all()
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        y = torch.randn(256, 256, device=f"cuda:{i}", dtype=torch.bfloat16)
        assert torch.isfinite(y @ y).all()
        p = torch.cuda.get_device_properties(i)
        print(f"{p.name}, {p.total_memory / 1e9:.0f} GB, compute {p.major}.{p.minor}, CUDA {torch.version.cuda}")
elif torch.version.cuda is None:
    print("none: this torch is a CPU build")
else:
    print(f"none found by this torch, built for CUDA {torch.version.cuda}")
"""

_RAY = """
import os
from deploy.distributed.ray_cluster import listening, loopback, start_local
start_local("doctor", 80_000_000)
import ray
assert ray.get(ray.remote(lambda: 41 + 1).options(num_cpus=0.1).remote(), timeout=60) == 42
sockets = listening()
outside = [f"{name} on {address}:{port}" for name, address, port in sockets if not loopback(address)]
where = f"all {len(sockets)} sockets listen on the loopback interface alone"
if outside:
    where = f"{len(outside)} of {len(sockets)} sockets can be reached from other machines: {', '.join(outside)}"
token = os.environ.get("RAY_AUTH_MODE") == "token"
print(f"{ray.cluster_resources()['CPU']:g} CPUs; {where}, {'protected by a token' if token else 'without a token'}")
ray.shutdown()
"""

_ENVIRONMENT = """
import gymnasium
env = gymnasium.make("CartPole-v1")
env.reset(seed=0)
env.step(0)
env.close()
from dm_control import suite
time_step = suite.load("cartpole", "swingup").reset()
assert time_step.observation
"""

_SUITE = """
import sys
from actors.envs import make
environment = make(sys.argv[1])
environment.reset(0)
environment.close()
"""

_VIDEO = """
import sys
import imageio, numpy
with imageio.get_writer(sys.argv[1], fps=10) as video:
    for n in range(4):
        video.append_data(numpy.full((64, 64, 3), n * 60, numpy.uint8))
"""


class Verdict(Enum):
    """How a check ended. Only FAILS keeps `nexus train` from working."""

    WORKS = "works"
    LIMITED = "limited"
    FAILS = "fails"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report: what was checked, the verdict, what was found, and the remedy if it does not work."""

    what: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def diagnose(directory: str | Path = ".") -> Iterator[Finding]:
    """Run every check in turn. `directory`: where runs will be written."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _versions, _torch, _environments, _suites, _rendering, _ray, _video, _memory,
        lambda: check_disk(Path(directory)),
    )  # fmt: skip
    for check in checks:
        yield from check()


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check what works on this machine, and how to fix what does not."""

    directory: Positional[Path] = Path(".")
    """Where runs will be written."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return doctor(parse(Doctor, arguments, prog="nexus doctor", example="nexus doctor").directory)


def doctor(directory: str | Path = ".", console: Console | None = None) -> int:
    """Print the report. The exit code is 1 if `nexus train` cannot work, else 0."""
    console = console or Console()
    colours = {Verdict.WORKS: "green", Verdict.LIMITED: "yellow", Verdict.FAILS: "bold red"}
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    findings = []
    with console.status("checking"):
        for finding in diagnose(directory):
            findings.append(finding)
            seen = Text(finding.seen)
            if finding.remedy:
                seen.append(f"\n{finding.remedy}", style="italic")
            table.add_row(Text(finding.verdict.value, style=colours[finding.verdict]), finding.what, seen)
    console.print(table)
    failed = [finding.what for finding in findings if finding.verdict is Verdict.FAILS]
    limited = [finding.what for finding in findings if finding.verdict is Verdict.LIMITED]
    if failed:
        console.print(f"\nNot ready; fix first: {', '.join(failed)}.", style="bold red")
    elif limited:
        console.print(f"\nReady to train. Limited: {', '.join(limited)}.", style="green")
    else:
        console.print("\nReady to train; everything works.", style="green")
    return FAILED if failed else 0


def _versions() -> Iterator[Finding]:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    old = sys.version_info < (3, 11)
    yield Finding(
        what="Python", verdict=Verdict.FAILS if old else Verdict.WORKS, seen=python,
        remedy="Nexus needs Python 3.11 or newer." if old else "",
    )  # fmt: skip
    yield Finding(
        what="packages", verdict=Verdict.LIMITED if missing else Verdict.WORKS,
        seen=", ".join(found) + (f"; not installed: {', '.join(missing)}" if missing else ""),
        remedy="Install them with `make setup`." if missing else "",
    )  # fmt: skip


def _torch() -> Iterator[Finding]:
    output, error = _run(_TORCH)
    if error:
        yield Finding(
            what="torch", verdict=Verdict.FAILS, seen=error,
            remedy="Reinstall it: `rm -rf .venv && make setup`; a GPU's driver must support torch's CUDA version.",
        )  # fmt: skip
        return
    torch, *gpus = output.splitlines()
    yield Finding(what="torch", verdict=Verdict.WORKS, seen=torch)
    for gpu in gpus:
        none = gpu.startswith("none")
        driver = shutil.which("nvidia-smi") is not None
        yield Finding(
            what="GPU", verdict=Verdict.LIMITED if none else Verdict.WORKS, seen=gpu,
            remedy="" if not none
            else "This machine has an NVIDIA driver: install a torch built for its CUDA version." if driver
            else "Training runs on the CPU; use a small preset such as `quick`.",
        )  # fmt: skip


def _environments() -> Iterator[Finding]:
    _, error = _run(_ENVIRONMENT)
    yield Finding(
        what="environments", verdict=Verdict.FAILS if error else Verdict.WORKS,
        seen=error or "gymnasium and dm_control environments run",
        remedy="`make setup` installs both; mujoco must be 3.x: 4.x breaks dm_control." if error else "",
    )  # fmt: skip


def _suites() -> Iterator[Finding]:
    """Every suite that is an extra, or that needs something of the system."""
    works, absent = [], []
    for suite in (one for one in SUITES if one.extra or one.pool):
        if not importlib.util.find_spec(suite.package):
            absent.append(f"{suite.prefix} ({suite.extra or suite.package})")
        elif error := _run(_SUITE, suite.example)[1]:
            yield Finding(
                what=f"suite {suite.prefix}", verdict=Verdict.LIMITED, seen=f"{suite.example} does not run",
                remedy=error.removeprefix("ValueError: "),
            )  # fmt: skip
        else:
            works.append(suite.prefix)
    seen = f"{', '.join(works) or 'none'}" + (f"; not installed: {', '.join(absent)}" if absent else "")
    yield Finding(what="suites", verdict=Verdict.WORKS, seen=seen)


def _rendering() -> Iterator[Finding]:
    reasons = {name: try_backend(name) for name in BACKENDS}
    works = any(not reason for reason in reasons.values())
    for name, reason in reasons.items():
        yield Finding(
            what=f"rendering, {name}", verdict=Verdict.LIMITED if reason else Verdict.WORKS,
            seen=reason or "MuJoCo renders an image",
            remedy="" if not reason
            else "Not needed: the other backend works." if works
            else f"Needed for pixels and videos of dm_control. On Debian: apt-get install {BACKENDS[name]}.",
        )  # fmt: skip


def _ray() -> Iterator[Finding]:
    output, error = _run(_RAY, limit=120.0)
    yield Finding(
        what="Ray", verdict=Verdict.LIMITED if error else Verdict.WORKS, seen=error or f"starts with {output}",
        remedy="`nexus train --mode inline` needs no Ray; `ray stop` ends leftover processes." if error else "",
    )  # fmt: skip


def _video() -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        _, error = _run(_VIDEO, str(Path(folder) / "video.mp4"))
    yield Finding(
        what="video", verdict=Verdict.LIMITED if error else Verdict.WORKS, seen=error or "encodes MP4",
        remedy="Write videos as .gif instead, or pip install imageio-ffmpeg." if error else "",
    )  # fmt: skip


def _memory() -> Iterator[Finding]:
    memory, cores = psutil.virtual_memory(), os.cpu_count() or 1
    few = memory.available < 4 * _GB
    yield Finding(
        what="memory", verdict=Verdict.LIMITED if few else Verdict.WORKS,
        seen=f"{memory.available / _GB:.1f} of {memory.total / _GB:.1f} GB free, {cores} cores",
        remedy="Limit the replay, e.g. --replay.capacity-gb 1." if few else "",
    )  # fmt: skip
    shared = Path("/dev/shm")
    if shared.is_dir() and (free := shutil.disk_usage(shared).free) < 0.5 * _GB:
        yield Finding(
            what="shared memory", verdict=Verdict.LIMITED, seen=f"{free / _GB:.2f} GB free in {shared}",
            remedy="Ray falls back to slow files. Start a container with --shm-size=2g.",
        )  # fmt: skip


def check_disk(directory: Path) -> Iterator[Finding]:
    """Whether runs can be written to `directory`, or to its nearest existing parent."""
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.is_dir())
    free, writable = shutil.disk_usage(there).free, True
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError:
        writable = False
    verdict = Verdict.FAILS if not writable else Verdict.LIMITED if free < 5 * _GB else Verdict.WORKS
    yield Finding(
        what="disk", verdict=verdict,
        seen=f"{free / _GB:.0f} GB free in {there}" if writable else f"{there} cannot be written to",
        remedy="" if verdict is Verdict.WORKS else "Choose another directory with --logdir.",
    )  # fmt: skip


def _run(code: str, *arguments: str, limit: float = 60.0) -> tuple[str, str]:
    """The output of a Python process, and why it failed: empty if it did not."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=limit,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", f"no answer within {limit:.0f} s"
    if done.returncode == 0:
        return done.stdout.strip(), ""
    lines = done.stderr.strip().splitlines()
    return "", lines[-1] if lines else f"the process exited with code {done.returncode}"
