"""V-JEPA 2-AC's planner: the reference vectors' plan from their noise, and its properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from world_models.planning.actions import ActionLayout
from world_models.planning.arm_cem import ArmCEM
from world_models.space import Space

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "jepa" / "cem.npz"


def test_the_plan_of_the_reference_vectors() -> None:
    """Their model: next = last + tanh(a W); their energy: the mean absolute difference of the last to the goal."""
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS} is not there")
    with np.load(VECTORS, allow_pickle=False) as file:
        given = {key: torch.tensor(file[key]) for key in file if not key.startswith("config/")}
        c = {key.removeprefix("config/"): file[key].item() for key in file if key.startswith("config/")}
    start, goal = (given[f"in/{name}_frame"].reshape(1, -1) for name in ("context", "goal"))

    def energy(actions: Tensor) -> Tensor:
        last = start + torch.tanh(actions @ given["in/W"]).sum(2)
        return (last - goal).abs().mean(-1)

    planner = ArmCEM(
        horizon=c["rollout"], samples=c["samples"], elites=c["topk"], iterations=c["cem_steps"], maxnorm=c["maxnorm"],
        momentum_mean=c["mm"], momentum_std=c["ms"], gripper_momentum_mean=c["mmg"], gripper_momentum_std=c["msg"],
    )  # fmt: skip
    noise = given["in/noise"].transpose(1, 2)[:, None]  # [I P S H 4]
    actions, _ = planner.refine(energy, noise)
    torch.testing.assert_close(actions, given["out/action"], atol=1e-5, rtol=0)


def test_rotation_stays_and_small_grips_are_dropped() -> None:
    layout = ActionLayout({"pose": Space(dtype=np.dtype(np.float32), shape=(7,))})
    target = torch.tensor([[0.02, -0.3, 0.01, 1, 1, 1, 0.6], [0, 0, 0, 1, 1, 1, 0.1]])

    def energy(actions: Tensor) -> Tensor:
        return (actions - target[:, None, None]).square().sum((2, 3))

    plan = ArmCEM().plan(energy, layout, 2, torch.Generator().manual_seed(0))
    expected = torch.tensor([[0.02, -0.05, 0.01, 0, 0, 0, 0.6], [0, 0, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(plan.actions, expected[:, None].expand(-1, 2, -1), atol=0.01, rtol=0)


def test_other_actions_are_refused() -> None:
    layout = ActionLayout({"stick": Space(dtype=np.dtype(np.float32), shape=(2,))})
    with pytest.raises(ValueError, match=r"translation, rotation, gripper\), not 2; use CEM"):
        ArmCEM().plan(lambda actions: actions.sum((2, 3)), layout, 1, torch.Generator())
