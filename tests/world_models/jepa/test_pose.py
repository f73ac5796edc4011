"""Poses: rotations against SciPy, actions that lead from one pose to another."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from world_models.jepa.pose import action_between, euler_angles, move_pose, rotation_matrix


def test_rotations_agree_with_scipy() -> None:
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (200, 3))
    matrices = rotation_matrix(torch.from_numpy(angles)).numpy()
    expected = Rotation.from_euler("xyz", angles)
    np.testing.assert_allclose(matrices, expected.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(euler_angles(torch.from_numpy(matrices)).numpy(), expected.as_euler("xyz"), atol=1e-10)


@pytest.mark.parametrize("y", [np.pi / 2, -np.pi / 2])
def test_a_quarter_turn_about_y_keeps_its_rotation(y: float) -> None:
    matrix = rotation_matrix(torch.tensor([0.3, y, -0.8], dtype=torch.float64))
    assert torch.allclose(rotation_matrix(euler_angles(matrix)), matrix, atol=1e-12)


def test_the_action_between_two_poses_leads_from_one_to_the_other() -> None:
    rng = torch.Generator().manual_seed(0)
    start, end = (torch.rand(50, 2, 7, generator=rng, dtype=torch.float64) for _ in range(2))
    assert torch.allclose(move_pose(start, action_between(start, end)), end, atol=1e-10)


def test_the_gripper_stays_between_open_and_closed() -> None:
    pose, action = torch.zeros(1, 7), torch.zeros(1, 7)
    pose[0, 6], action[0, 6] = 0.75, 0.5
    assert move_pose(pose, action)[0, 6] == 1
    assert move_pose(pose, -2 * action)[0, 6] == 0
