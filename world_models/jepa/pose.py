"""Poses of a robot arm and the actions between them, as in DROID: position, Euler angles (radians), gripper.

Angles turn about the fixed axes x, y, z in this order: `R = Rz Ry Rx`. Works on any device, batched.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_matrix(angles: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """`Rz Ry Rx` of Euler angles x, y, z."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def euler_angles(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    """The inverse of `rotation_matrix`, y within a quarter turn; at exactly a quarter turn z is taken as 0."""
    cy = torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    y = torch.atan2(-matrix[..., 2, 0], cy)
    x = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    z = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    locked = cy < 1e-6
    x = torch.where(locked, torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1]), x)
    return torch.stack([x, y, torch.where(locked, 0.0, z)], -1)


def move_pose(pose: Float[Tensor, "... 7"], action: Float[Tensor, "... 7"]) -> Float[Tensor, "... 7"]:
    """The pose after an action: positions add up, rotations compose (the action's last), the gripper stays in 0..1."""
    turned = rotation_matrix(action[..., 3:6].double()) @ rotation_matrix(pose[..., 3:6].double())
    gripper = (pose[..., 6:] + action[..., 6:]).clamp(0, 1)
    return torch.cat([pose[..., :3] + action[..., :3], euler_angles(turned).to(pose.dtype), gripper], -1)


def action_between(start: Float[Tensor, "... 7"], end: Float[Tensor, "... 7"]) -> Float[Tensor, "... 7"]:
    """The action that leads from one pose to another: differences, and the Euler angles of `R_end R_start^T`."""
    start, end = start.double(), end.double()
    turn = rotation_matrix(end[..., 3:6]) @ rotation_matrix(start[..., 3:6]).mT
    return torch.cat([end[..., :3] - start[..., :3], euler_angles(turn), end[..., 6:] - start[..., 6:]], -1)
