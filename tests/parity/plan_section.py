"""cem.npz: the planner of robot arms with recorded noise, and poses."""

from torch import Tensor

from tests.parity.check import Check
from world_models.jepa.pose import action_between, move_pose
from world_models.planning.arm_cem import ArmCEM


def check_plan(check: Check) -> None:
    c = {name: value.item() for name, value in check.inputs("config/").items()}
    planner = ArmCEM(
        horizon=c["rollout"], samples=c["samples"], elites=c["topk"], iterations=c["cem_steps"], maxnorm=c["maxnorm"],
        momentum_mean=c["mm"], momentum_std=c["ms"], gripper_momentum_mean=c["mmg"], gripper_momentum_std=c["msg"],
    )  # fmt: skip
    weight, start, goal = (check.tensor(f"in/{name}") for name in ("W", "context_frame", "goal_frame"))
    check.input("in/pose")  # the toy model takes no notice of it

    def energy(actions: Tensor) -> Tensor:
        """Mean absolute error of the last state to the goal; the toy model adds `tanh(action @ W)` at each step."""
        last = start.flatten() + (actions @ weight).tanh().sum(2)  # [P S N*D]
        return (last - goal.flatten()).abs().mean(-1)

    noise = check.tensor("in/noise").transpose(1, 2)[:, None]  # [iterations 1 samples horizon 4]
    check.compare("out/action", planner.refine(energy, noise)[0], "activation")
    pose, action = check.tensor("pose/pose"), check.tensor("pose/action")
    check.compare("pose/new_pose", move_pose(pose, action), "activation")
    check.compare("pose/diff_back", action_between(pose, move_pose(pose, action))[:, 0], "activation")
