"""deploy/Dockerfile: what it copies exists, what it installs can be installed."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "Dockerfile"
PACKAGES = ("actors", "learner", "replay", "world_models", "deploy")


class Step(NamedTuple):
    """One instruction of a stage."""

    stage: str
    name: str
    text: str


def steps() -> list[Step]:
    found, stage = [], ""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.M))
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, _, rest = line.partition(" ")
        stage = rest.rpartition(" AS ")[2] if name == "FROM" else stage
        found.append(Step(stage, name, rest))
    return found


def sent() -> set[str]:
    """What of the top level reaches the build, by the rules beside the Dockerfile: only what they name."""
    lines = (FILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    return {path.name for path in ROOT.iterdir() if any(fnmatch.fnmatch(path.name, rule) for rule in kept)}


def test_everything_that_is_copied_reaches_the_build() -> None:
    copied = [word for step in steps() if step.name == "COPY" for word in shlex.split(step.text)[:-1]]
    assert {*PACKAGES, "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= set(copied)
    assert all((ROOT / word).exists() and word.split("/")[0] in sent() for word in copied)
    assert not {".git", ".venv", ".secrets", "runs", "tests"} & sent()


def test_no_image_runs_as_root_or_holds_a_secret() -> None:
    for stage in ("replay", "nexus"):
        users = [step.text for step in steps() if step.stage == stage and step.name == "USER"]
        assert users and users[-1] not in ("root", "0")
    assert not [
        step for step in steps() if step.name in ("ENV", "ARG") and re.search("PASSWORD|TOKEN|SECRET", step.text)
    ]


def test_debian_has_the_packages() -> None:
    """The same packages as the README names, from the Debian that the image is built on."""
    (line,) = (step.text for step in steps() if step.name == "RUN" and "apt-get" in step.text)
    packages = line.partition("--no-install-recommends ")[2].partition(" && ")[0].split()
    named = set(re.findall(r"lib(?:egl1|osmesa6|opengl0|qt5gui5|qt5core5a)", (ROOT / "README.md").read_text()))
    assert set(packages) == named
    base = next(step.text for step in steps() if step.name == "FROM" and step.stage == "nexus")
    release = Path("/etc/os-release")
    if not shutil.which("apt-get") or base.split()[0].rpartition("-")[2] not in release.read_text():
        pytest.skip(f"this machine is not the Debian of {base}")
    command = ["apt-get", "install", "--simulate", "--no-install-recommends", *packages]
    done = subprocess.run(command, env=os.environ | {"LANG": "C"}, capture_output=True, text=True, timeout=500)
    if "Unable to locate" in done.stderr:
        pytest.skip("apt-get has no list of packages here (apt-get update)")
    assert done.returncode == 0, done.stderr
