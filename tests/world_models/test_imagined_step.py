"""The imagined step that is compiled on a CPU: its numbers, how often it is compiled, and when it is not."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.config import LearnerConfig
from learner.dreamer_step import DreamerStep
from tests.world_models.compiled_updates import UPDATES
from tests.world_models.small_agent import CONFIG, CONTINUOUS, VECTOR, build
from world_models.dreamer.draws import Draws, draw_actions
from world_models.dreamer.imagination import imagine
from world_models.dreamer.kernels.imagined_step import CompiledSteps, imagined_step
from world_models.dreamer.rssm import State

ROWS, HORIZON = 5, 4


class Plainly(CompiledSteps):
    """What would be compiled, as it stands."""

    def __init__(self, rows: int):
        self.rows, self.taken, self._step = rows, 0, imagined_step


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(("dynamics_layers", "prior_layers"), [(1, 1), (0, 1), (2, 2), (1, 3)])
def test_its_numbers_are_those_of_the_plain_step(dynamics_layers: int, prior_layers: int, forced: bool) -> None:
    rssm = replace(CONFIG.rssm, dynamics_layers=dynamics_layers, prior_layers=prior_layers)
    agent = build({"vector": VECTOR}, {"steer": CONTINUOUS}, replace(CONFIG, rssm=rssm))
    generator = torch.Generator().manual_seed(1)
    for parameter in agent.parameters():  # gains and biases, too
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    index = torch.randint(rssm.classes, (ROWS, rssm.stoch), generator=generator)
    start = State(
        torch.randn(ROWS, rssm.deter, generator=generator), torch.nn.functional.one_hot(index, rssm.classes).float()
    )
    latents = torch.rand(ROWS, HORIZON, rssm.stoch, generator=generator)
    if forced:
        latents = (latents * rssm.classes).long()
    draws = Draws(latents[:, :0], latents, draw_actions(agent.action_space, (ROWS, HORIZON + 1), generator), forced)
    plain = imagine(agent.rssm, agent.policy, start, draws)
    agent.rssm.compiled_steps = Plainly(ROWS)
    other = imagine(agent.rssm, agent.policy, start, draws)
    torch.testing.assert_close(other.features, plain.features, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other.logits, plain.logits, rtol=1e-5, atol=1e-6)
    agent.rssm.compiled_steps = Plainly(ROWS + 1)  # for another number of rows, so not used
    torch.testing.assert_close(imagine(agent.rssm, agent.policy, start, draws).features, plain.features, rtol=0, atol=0)


def updates(cache: Path, **variables: str) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)} | variables
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    command = [sys.executable, "-m", "tests.world_models.compiled_updates"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_it_is_compiled_once_and_found_again(tmp_path: Path) -> None:
    for _ in range(2):
        found = updates(tmp_path)
        assert found["remarks"][0].startswith("Imagined steps are compiled; that took "), found
        assert found["graphs"] == 1 and found["taken"] == UPDATES * CONFIG.imagination_length
        assert found["apart"] < 1e-4
    assert any((tmp_path / "nexus" / "compiled").rglob("*.so"))


def test_without_a_compiler_it_says_so_and_steps_are_plain(tmp_path: Path) -> None:
    found = updates(tmp_path, CXX=str(tmp_path / "g++"))
    (remark,) = found["remarks"]
    assert remark.startswith("Imagined steps are not compiled: ") and "It needs g++, or another compiler" in remark
    assert found["apart"] == 0.0 and found["taken"] == 0


def test_without_a_folder_for_the_cache_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (remark,) = updates(tmp_path / "file")["remarks"]
    assert "Imagined steps are not compiled: no folder for what is compiled (" in remark
    assert "); name one in TORCHINDUCTOR_CACHE_DIR. " in remark


def test_what_cannot_be_compiled_is_said() -> None:
    agent = build({"vector": VECTOR}, {"steer": CONTINUOUS})
    half = DreamerStep(agent, LearnerConfig(device="cpu", precision="bfloat16", compile=True))
    assert half.remarks == [
        "Imagined steps are not compiled: that is for float32 on a CPU. "
        "Set learner.compile to False to be rid of this line."
    ]
    assert DreamerStep(agent, LearnerConfig(device="cpu")).remarks == []
