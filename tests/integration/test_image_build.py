"""The steps of deploy/Dockerfile, one by one: over this machine's own files, in a layer that is thrown away."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.test_dockerfile import FILE, ROOT, Step, steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

BASE = Path(sys.base_prefix)
"""The Python of the image's base; its pip is that of a fresh environment."""
TRIED = (
    "nexus --help",
    "nexus train gym:CartPole-v1 --preset quick --mode inline --frames 64 --logdir /runs/$(id -u)",
    "nexus launch gym:CartPole-v1 --preset quick --target kuberay --dry-run | grep 'maxmemory-policy noeviction'",
    "python -c 'import aiohttp'",  # Ray's dashboard needs it
)


def script(layer: Path) -> Iterator[str]:
    """What a shell does in a mount namespace of its own; it stops at the first step that fails."""
    new = layer / "root"
    yield "set -e"
    yield f"mount -t overlay overlay -o lowerdir=/,upperdir={layer}/upper,workdir={layer}/work {new}"
    yield f"mount -t proc proc {new}/proc; mount --rbind /dev {new}/dev"
    yield f"mkdir -p {new}/data; chmod o+x {new}/root"  # what the base images have; where this Python may lie
    yield f"rm -rf {new}/runs; getent passwd 1000 | cut -d: -f1 | xargs -r chroot {new} userdel --force"
    yield f"{_inside(new, '/', {})} {BASE}/bin/python3 -m venv /image"
    variables: dict[str, str] = {}
    place = "/"
    for step in steps():
        yield f"echo {shlex.quote(f'{step.name} {step.text}')}"
        match step:
            case Step(name="FROM"):
                variables, place = {}, "/"
            case Step(name="ENV", text=text):
                variables |= dict(word.split("=", 1) for word in shlex.split(text))
            case Step(name="WORKDIR", text=text):
                place = text
                yield f"mkdir -p {new}{place}"
            case Step(name="COPY", text=text):
                *sources, target = shlex.split(text)
                into = new / target.lstrip("/") if target.startswith("/") else new / place.lstrip("/") / target
                for source in sources:
                    yield f"mkdir -p {into.parent} && cp -r {ROOT / source} {into}"
            case Step(name="RUN", text=text):
                yield f"{_inside(new, place, variables)} sh -c {shlex.quote(text)}"
            case Step(name=name):
                assert name in ("USER", "CMD"), name
    for user in (1000, 12345):
        for command in TRIED:
            yield f"echo {user}: {shlex.quote(command)}"
            confined = f"setpriv --reuid {user} --regid {user} --clear-groups sh -c {shlex.quote(command)}"
            yield f"{_inside(new, place, variables)} {confined}"


def _inside(new: Path, place: str, variables: dict[str, str]) -> str:
    given = {"PATH": "/image/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "DEBIAN_FRONTEND": "noninteractive"}
    words = [f"{name}={value}" for name, value in (given | variables).items()]
    return shlex.join(["chroot", str(new), "env", "-C", place, *words])


def test_each_step_works_and_any_user_can_run_what_is_built(tmp_path: Path) -> None:
    if os.getuid() or not shutil.which("unshare") or FILE.read_text().count("bookworm") != 1:
        pytest.skip("this needs root, for a layer over this machine's files")
    for name in ("upper", "work", "root"):
        (tmp_path / name).mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "VIRTUAL"))}
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", "\n".join(script(tmp_path))], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=2900,
        )  # fmt: skip
    finally:  # it has 100,000 files, which another test would spend minutes on
        subprocess.run(["rm", "-rf", *(tmp_path / name for name in ("upper", "work"))], check=True)
    if "mount" in done.stderr and "overlay" in done.stderr and not done.stdout:
        pytest.skip(f"no layers can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-500:]
    assert "12345: python" in done.stdout
