"""The doctor on this machine, and on one whose packages are broken."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from deploy.commands.doctor import Verdict, check_disk, doctor

ROOT = Path(__file__).parents[3]


def test_this_machine_is_ready(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100)
    assert doctor(tmp_path, console=console) == 0
    assert isinstance(console.file, io.StringIO)
    report = console.file.getvalue()
    assert "Ready to train" in report
    packages, machine = ("Python", "torch", "Ray", "environments", "suites"), ("GPU", "memory", "disk")
    for part in (*packages, *machine, "rendering, egl", "rendering, osmesa"):
        assert part in report
    said = " ".join(report.split())
    assert "sockets listen on the loopback interface alone, protected by a token" in said
    assert "can be reached from other machines" not in said


def test_what_is_broken_is_named_with_its_remedy(tmp_path: Path) -> None:
    for package in ("torch", "ray", "mujoco", "imageio"):
        (tmp_path / f"{package}.py").write_text(f"raise ImportError('{package} is broken here')\n")
    done = subprocess.run(
        [sys.executable, "-c", "from deploy.commands.doctor import doctor; raise SystemExit(doctor())"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}, capture_output=True, text=True,
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Not ready; fix first: torch, environments." in done.stdout
    for part in ("torch is broken here", "ray is broken here", "imageio is broken here", "mujoco is broken here"):
        assert part in done.stdout
    for remedy in ("make setup", "--mode inline", "apt-get install libosmesa6", ".gif"):
        assert remedy in done.stdout


def test_a_directory_that_cannot_be_written_fails() -> None:
    proc = Path("/proc")  # read-only even for root
    if not proc.is_dir():
        pytest.skip("this system has no /proc")
    (disk,) = check_disk(proc)
    assert disk.verdict is Verdict.FAILS
    assert "--logdir" in disk.remedy


def test_a_directory_to_be_made_is_judged_by_the_one_above(tmp_path: Path) -> None:
    (disk,) = check_disk(tmp_path / "runs" / "new")
    assert disk.verdict is not Verdict.FAILS
    assert str(tmp_path) in disk.seen
    assert not list(tmp_path.iterdir())
