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
import torch

from learner.dreamer_step import DreamerStep
from tests.learner.test_dreamer_step import ACTION, LEARNER, OBSERVATIONS
from tests.world_models.small_agent import build
from world_models.dreamer.config import RSSMConfig, sized
from world_models.dreamer.recurrence import Kernels
from world_models.dreamer.rssm import RSSM

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed; it is made for Linux alone")
OLD = find_spec("triton") is not None and tuple(map(int, version("triton").split(".")[:2])) < (3, 7)


def program(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """What it prints. A process of its own: Triton interprets or compiles, as it finds it when it is imported."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"tests.world_models.{name}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


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
def test_what_they_cannot_do_is_refused() -> None:
    from world_models.dreamer.kernels.choice import fused_walk

    config = RSSMConfig(deter=16, hidden=8, stoch=2, classes=4, blocks=2)
    for rssm, rows, reason in (
        (RSSM(config, 2, 3), 4, "they run on a GPU and not on cpu"),
        (RSSM(config, 2, 3).double(), 4, "they do not compute in torch.float64"),
        (RSSM(replace(config, dynamics_layers=0), 2, 3), 4, "they need rssm.dynamics_layers of at least 1"),
        (RSSM(config, 2, 3), 129, "they take at most 128 sequences"),
    ):
        with pytest.raises(ValueError, match=f"cannot do this one: {reason}. Set learner.fused_scan to False"):
            fused_walk(rssm, rows)


@triton
@pytest.mark.parametrize("size", ["size1m", "size12m", "size200m"])
@pytest.mark.parametrize("rows", [1, 16, 40, 128])
def test_all_programs_run_at_once(size: str, rows: int) -> None:
    from world_models.dreamer.kernels.fused import choose_tiles

    c = sized(size).rssm
    own, first, bias = ((c.blocks, c.deter // c.blocks, c.deter // c.blocks), (c.deter, c.hidden), (2, c.hidden))
    made = torch.empty(1).expand  # of any shape, without memory
    kernels = Kernels((), made(bias), made(bias), made(1), (made(own),), (), (), (made(first),), (), ())
    tiles = choose_tiles(kernels, rows, 132)
    assert tiles.programs * -(-rows // tiles.rows) <= 132 and tiles.rows >= 16 and tiles.programs >= 32


def test_a_cpu_filters_operator_by_operator() -> None:
    step = DreamerStep(build(OBSERVATIONS["vector"], ACTION), replace(LEARNER, fused_scan=True))
    assert step.agent.rssm.walk is None and step.remarks == []


@pytest.mark.skipif(find_spec("triton") is not None, reason="Triton is installed")
def test_without_triton_it_says_so() -> None:
    from world_models.dreamer.kernels.choice import fused_walk

    with pytest.raises(ValueError, match=r"needs Triton, which comes with torch for CUDA .*Set learner.fused_scan to"):
        fused_walk(RSSM(RSSMConfig(deter=16, hidden=8, stoch=2, classes=4, blocks=2), 2, 3), 1)
