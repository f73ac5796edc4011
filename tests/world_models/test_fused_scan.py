"""The scan's kernels beside the plain scan, interpreted on a CPU; and compiled for a GPU that need not be there."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from learner.dreamer_step import DreamerStep
from tests.learner.test_dreamer_step import ACTION, LEARNER, OBSERVATIONS
from tests.world_models.small_agent import build
from world_models.dreamer.config import RSSMConfig
from world_models.dreamer.rssm import RSSM

ROOT = Path(__file__).parents[2]
TRITON = Path(sys.prefix) / "triton"
"""Where `make setup` puts it. Not among the packages: torch imports a Triton that it finds, and in a process that draws
with Mesa, both with an LLVM of their own, that is a crash."""
triton = pytest.mark.skipif(
    not TRITON.is_dir() and find_spec("triton") is None, reason="Triton is not there; it is made for Linux alone"
)
OLD = not TRITON.is_dir() and find_spec("triton") is not None and version("triton") < "3.7"


def run(folder: Path, *arguments: str) -> str:
    """What a program with Triton prints. A process of its own: Triton interprets or compiles, as it finds it when it is
    imported."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRITON)}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(run(folder, f"tests.world_models.{name}").splitlines()[-1])
    return found


@triton
@pytest.mark.skipif(OLD, reason="the interpreter of Triton before 3.7 does not know NumPy 2.4")
def test_states_and_all_gradients_are_those_of_the_plain_scan(tmp_path: Path) -> None:
    found = program("interpreted_scan", tmp_path)
    narrow = {name: case for name, case in found.items() if name.startswith("bfloat16")}
    wide = {name: case for name, case in found.items() if name not in narrow}
    assert len(wide) >= 9 and len(narrow) >= 2
    for name, case in found.items():
        assert case["same_indices"] and case["compared"] >= 23, (name, case)
    for name, case in wide.items():
        assert case["states"] < 1e-6 and case["gradients"] < 3e-6, (name, case)
    for name, case in narrow.items():
        assert 0 < case["states"] < 0.01 and 0 < case["gradients"] < 0.05, (name, case)


@triton
def test_they_compile_for_an_h100(tmp_path: Path) -> None:
    found = program("compiled_scan", tmp_path)
    for name, kernel in found.items():
        assert kernel["arrivals"] == 5, (name, "a meeting behind each phase of a step")
        assert kernel["acquired"] == 5, (name, "each meeting makes what was written visible")
        assert kernel["products"] > 20 and kernel["shared"] <= 227 * 1024 and kernel["binary"] > 10_000, (name, kernel)


@triton
def test_what_they_refuse_and_how_they_are_divided(tmp_path: Path) -> None:
    said = run(
        tmp_path, "pytest", "--noconftest", "-q", "-p", "no:cacheprovider", "tests/world_models/fused_scan_checks.py"
    )
    assert "13 passed" in said, said


def test_a_cpu_filters_operator_by_operator() -> None:
    step = DreamerStep(build(OBSERVATIONS["vector"], ACTION), replace(LEARNER, fused_scan=True))
    assert step.agent.rssm.walk is None and step.remarks == []


@pytest.mark.skipif(find_spec("triton") is not None, reason="Triton is installed")
def test_without_triton_it_says_so() -> None:
    from world_models.dreamer.kernels.choice import fused_walk

    with pytest.raises(ValueError, match=r"needs Triton, which comes with torch for CUDA .*Set learner.fused_scan to"):
        fused_walk(RSSM(RSSMConfig(deter=16, hidden=8, stoch=2, classes=4, blocks=2), 2, 3), 1)
