"""cem.npz: the planner with recorded noise, and poses."""

from tests.parity.check import Check
from world_models.jepa.pose import action_between, move_pose


def check_plan(check: Check) -> None:
    pose, action = (check.tensor(f"pose/{name}") for name in ("pose", "action"))
    check.compare("pose/new_pose", move_pose(pose, action), "activation")
    check.compare("pose/diff_back", action_between(pose, move_pose(pose, action))[:, 0], "activation")
