"""A planner over a world model as a policy: it plans at every step, or every few, and takes the first actions (receding
horizon)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from actors.trivial_policies import Arrays
from replay.step import RESERVED
from world_models.dreamer.draws import mix_seed
from world_models.planning.actions import ActionLayout
from world_models.planning.costs import GoalCost
from world_models.planning.objective import Cost, Objective
from world_models.planning.plan import Planner, Warm, cold, restart, shift
from world_models.protocol import GoalModel, PlanningModel, State, leaves, map_state
from world_models.snapshot import Snapshot, load_snapshot

Goal = Callable[[Arrays], Arrays]
"""Picks the observation of the goal out of the observations `[N ...]`."""


class PlannerCarry(NamedTuple):
    """The state before the newest observation, the action that led from it, where the next plan begins, how many steps
    each episode has taken, and what is left of the plan `[N H A]`."""

    state: State
    action: Tensor
    warm: Warm
    taken: Tensor
    plan: Tensor


class PlannerPolicy:
    """Plans for N environments at once, all in one batch; `seed` and the `draw` number of a step fix every sample.

    Plans are judged by `cost`, or by the distance to the observation that `goal` picks, at the end or after every step.
    With `deadline`, the steps of an episode, plans towards a goal end with the episode (a shrinking horizon). A plan is
    followed for `replan_every` steps, or until its episode ends.
    `module` holds the parameters of the model, which snapshots replace; `latents_of` is what is stored of a state.
    """

    def __init__(
        self, model: PlanningModel, planner: Planner, cost: Cost | None = None, *, goal: Goal | None = None,
        every_step: bool = False, deadline: int | None = None, replan_every: int = 1, seed: int = 0,
        module: nn.Module | None = None, latents_of: Callable[[State], Arrays] = lambda state: {},
    ):  # fmt: skip
        if (cost is None) == (goal is None):
            raise ValueError("PlannerPolicy needs either cost or goal: what is a plan to be judged by?")
        if deadline is not None and (goal is None or deadline < 1):
            raise ValueError(f"deadline={deadline} must be at least 1, and is for plans towards a goal.")
        if not 1 <= replan_every <= planner.horizon:
            raise ValueError(
                f"replan_every={replan_every} must lie between 1 and {planner.horizon}, the steps that are planned."
            )
        if goal is not None and not isinstance(model, GoalModel):
            raise ValueError(f"{type(model).__name__} has no features(), so no distance to a goal; give a cost.")
        self.model, self.planner, self.cost, self.goal = model, planner, cost, goal
        self.every_step, self.deadline, self.replan_every = every_step, deadline, replan_every
        self.seed, self.module = seed, module
        self.latents_of, self.version = latents_of, 0
        self.device = leaves(model.initial(1))[0].device
        self.layout = ActionLayout(model.action_space, self.device)
        self.generator = torch.Generator(self.device)

    @property
    def latents(self) -> Arrays:
        return {key: value[0] for key, value in self.latents_of(self.model.initial(1)).items()}

    def initial(self, rows: int) -> PlannerCarry:
        """The carry before the first step of N environments."""
        action = torch.zeros(rows, self.layout.width, device=self.device)
        warm = cold(self.layout, rows, self.planner.horizon)
        taken = torch.zeros(rows, dtype=torch.long, device=self.device)
        return PlannerCarry(self.model.initial(rows), action, warm, taken, warm.mean)

    def act(
        self, carry: PlannerCarry, observation: Arrays, is_first: np.ndarray, draw: int
    ) -> tuple[PlannerCarry, Arrays, Arrays]:
        """Observation keys `[N ...]`, `is_first` bool `[N]` to the next carry, actions `[N ...]`, latents to store."""
        number = mix_seed(self.seed, draw)
        self.generator.manual_seed(number)
        self.model.seed(number + 1)
        first = torch.as_tensor(is_first, device=self.device)
        observation = {key: value for key, value in observation.items() if key not in RESERVED}
        with torch.no_grad():  # not inference mode, whose tensors have no gradients: a planner may need those
            state = self.model.encode(observation, carry.state, carry.action, first)
        taken = torch.where(first, 0, carry.taken)
        warm, plan = carry.warm, carry.plan
        due = first | (taken % self.replan_every == 0)
        if due.any():
            if is_first.any():
                warm = restart(warm, first, self.layout)
            objective = Objective(self.model, state, self._cost(observation, taken), number + 2)
            found = self.planner.plan(objective, self.layout, len(is_first), self.generator, warm)
            warm = found.warm if due.all() else _chosen(due, found.warm, warm)
            plan = torch.where(due[:, None, None], found.actions, plan)
        action = plan[:, 0].clone()
        actions = {key: value.cpu().numpy() for key, value in self.layout.by_key(action).items()}
        after = PlannerCarry(state, action, shift(warm), taken + 1, torch.cat([plan[:, 1:], plan[:, -1:]], 1))
        return after, actions, self.latents_of(state)

    def _cost(self, observation: Arrays, taken: Tensor) -> Cost:
        if self.cost is not None:
            return self.cost
        assert self.goal is not None and isinstance(self.model, GoalModel), "checked at the start"
        with torch.no_grad():
            features = self.model.features(self.model.encode(self.goal(observation)))
        left = None if self.deadline is None else (self.deadline - taken).clamp(1, self.planner.horizon)
        return GoalCost(goal=features, every_step=self.every_step, steps=left)

    def override(self, actions: Arrays) -> PlannerCarry:
        """The carry after a step with `actions` `[N ...]` that were not planned: they and the initial state."""
        carry = self.initial(len(next(iter(actions.values()))))
        taken = {key: torch.as_tensor(value, device=self.device) for key, value in actions.items()}
        return carry._replace(action=self.layout.vector(taken))

    def state(self, carry: PlannerCarry) -> Arrays:
        """A carry as arrays, for checkpoints."""
        return {str(i): leaf.cpu().numpy() for i, leaf in enumerate(leaves(carry))}

    def load(self, arrays: Arrays) -> PlannerCarry:
        """The inverse of `state`."""
        parts = iter(arrays[str(i)] for i in range(len(arrays)))
        rows = len(arrays["0"])
        return map_state(lambda _: torch.as_tensor(next(parts), device=self.device), self.initial(rows))

    def update(self, snapshot: Snapshot) -> None:
        """Use the parameters and version of a snapshot of `module`."""
        assert self.module is not None, "a policy that takes snapshots is given its module"
        load_snapshot(self.module, snapshot)
        self.version = snapshot.version


def _chosen(rows: Tensor, yes: Warm, no: Warm) -> Warm:
    """`yes` in the problems `rows`, `no` in the others; without elites where one has none."""
    mean = torch.where(rows[:, None, None], yes.mean, no.mean)
    kept = min(yes.elites.shape[1], no.elites.shape[1])
    return Warm(mean, torch.where(rows[:, None, None, None], yes.elites[:, :kept], no.elites[:, :kept]))
