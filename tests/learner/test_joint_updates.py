"""Updates of a batch that several processes share, or that passes in parts, are those of one process in one pass."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from learner.config import LearnerConfig
from learner.processes import Processes
from tests.integration.runs import environment
from tests.learner.joint_updates import CASES, ROWS, SHARED, VECTORS, Case, after_one_update, learned, still_learner


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Tensor]]:
    """What one process learns in one pass."""
    return {name: learned(case, Processes(), 1) for name, case in CASES.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Parameters and normalisers within 1e-5 of their size, or a thousandth of one step, as biases begin with zero;
    metrics within 1e-4 of the largest of their 20 values, or 1e-6, since some are differences of larger numbers."""
    assert one.keys() == other.keys() and len(one) > 60
    for key, value in one.items():
        relative, absolute = (1e-4, 1e-6) if key.startswith("metrics/") else (1e-5, 1e-7)
        error, size = float((value - other[key]).abs().max()), float(value.abs().max())
        assert error <= absolute + relative * size, f"{key}: {error:g} of {size:g}"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_learned_as_in_one_pass(name: str, parts: int, alone: dict[str, dict[str, Tensor]]) -> None:
    assert_same(alone[name], learned(CASES[name], Processes(), parts))


@pytest.mark.parametrize("size", [2, 4])
def test_processes_learn_together_what_one_learns_alone(
    size: int, alone: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.learner.joint_updates"]
    arguments = [str(size), str(tmp_path / "meeting"), str(tmp_path / "learned.safetensors")]
    running = [
        subprocess.Popen([*command, str(rank), *arguments], env=environment(), stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    try:
        errors = [process.communicate(timeout=500)[1] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0] * size, "\n".join(errors)
    found = load_file(tmp_path / "learned.safetensors")
    for name, accumulate in SHARED:
        prefix = f"{name}/{accumulate}/"
        together = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
        assert_same(alone[name], together)
    assert_states_fit({key.removeprefix("state/"): value for key, value in found.items() if key.startswith("state/")})


def assert_states_fit(state: dict[str, Tensor]) -> None:
    """A state saved between two batches of one sequence by several processes: what one would have saved."""
    own = {key: torch.as_tensor(value) for key, value in after_one_update(Processes()).state().items()}
    assert own.keys() == state.keys() and {"waiting.0.keys", "carry.deter", "carry.action.steer"} < own.keys()
    for key, value in own.items():
        assert value.dtype == state[key].dtype and value.shape == state[key].shape, key
        torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_each_process_samples_its_rows_of_a_batch() -> None:
    whole, keys = still_learner(Processes()).sample(5)
    parts = [still_learner(Processes(rank, 4)).sample(5) for rank in range(4)]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), keys)
    for key, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([rows[key] for rows, _ in parts]), value)
    living = [still_learner(Processes(rank, 4), still=False).sample(5)[1] for rank in range(4)]
    assert [part.shape for part in living] == [(ROWS // 4, 9, 2)] * 4
    assert not any((one == other).all() for one, other in itertools.pairwise(living))


def test_another_number_of_processes_continues_between_two_batches_of_one_sequence() -> None:
    state = after_one_update(Processes()).state()
    for rank in range(2):
        mine = still_learner(Processes(rank, 2))
        mine.load(state)
        rows = slice(4 * rank, 4 * rank + 4)
        (waiting, keys), *none = mine._waiting
        assert not none and mine.step.carry is not None
        np.testing.assert_array_equal(keys, state["waiting.0.keys"][rows])
        np.testing.assert_array_equal(waiting["reward"], state["waiting.0.reward"][rows])
        np.testing.assert_array_equal(mine.step.carry.state.deter.numpy(), state["carry.deter"][rows])


def test_half_precision_passes_in_parts_too() -> None:
    half = Case(observation=VECTORS, precision="bfloat16")
    whole, parts = learned(half, Processes(), 1), learned(half, Processes(), 4)
    total = "metrics/loss/total"
    torch.testing.assert_close(parts[total][0], whole[total][0], rtol=1e-3, atol=1e-3)
    assert all(value.isfinite().all() for value in parts.values())


def test_what_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size=16 .*processes=3 times .*accumulate=1 .* multiple of 3"):
        LearnerConfig(processes=3)
    with pytest.raises(ValueError, match=r"batch_size=8 .*processes=2 times .*accumulate=3 .* multiple of 6"):
        LearnerConfig(batch_size=ROWS, processes=2, accumulate=3)
    with pytest.raises(ValueError, match="learner.accumulate=0 must be at least 1"):
        LearnerConfig(accumulate=0)
    with pytest.raises(ValueError, match="device='cuda:1' is one GPU, but each of learner.processes=2 needs one"):
        LearnerConfig(processes=2, device="cuda:1")
