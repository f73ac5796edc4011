"""What makes the runs of the health benchmark bad: environments, a model without memory, a source of wrong rewards."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.spaces import Box
from torch import Tensor

from actors.actor import Actor
from deploy.inline_run import InlineRun
from replay.store import Sample
from world_models.dreamer.recurrence import Steps
from world_models.dreamer.rssm import RSSM, Sequence, State

CHANGE = 400
"""Steps of one environment after which `ChangingCartPole` is another task."""


class HiddenCartPole(CartPoleEnv):
    """CartPole whose velocities are hidden: what comes next follows from the past alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = super().reset(**options)
        return observation[::2], info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, *rest = super().step(action)
        return observation[::2], *rest


class ChangingCartPole(CartPoleEnv):
    """CartPole that becomes another one after `CHANGE` steps, and says so: twice the gravity, pushes the other way, and
    the sensors swapped and negated."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.taken = 0
        self.observation_space = Box(-np.inf, np.inf, (5,), np.float32)

    @property
    def changed(self) -> bool:
        return self.taken >= CHANGE

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.gravity = 19.6 if self.changed else 9.8
        self.other = self.changed  # for the whole episode
        observation, info = super().reset(**options)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        observation, *rest = super().step(1 - action if self.other else action)
        return self._seen(observation), *rest

    def _seen(self, observation: np.ndarray) -> np.ndarray:
        flag = np.array([float(self.other)], np.float32)
        return np.concatenate([-observation[::-1] if self.other else observation, flag])


for one in (HiddenCartPole, ChangingCartPole):
    gymnasium.register(f"{one.__name__}-v0", f"{__name__}:{one.__name__}", max_episode_steps=500)


class MemorylessRSSM(RSSM):
    """Carries nothing from one step to the next: with the recurrent state alone reset, the latents would do so."""

    def core(
        self, deter: Tensor, stoch: Tensor, action: Tensor, kernels: list[tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        return super().core(torch.zeros_like(deter), torch.zeros_like(stoch), action, kernels)

    def observe(self, state: State, tokens: Tensor, action: Tensor, reset: Tensor, draw: Tensor) -> Sequence:
        rows = reset.numel()  # each step is a sequence of its own
        alone = (x.flatten(0, 1)[:, None] for x in (tokens, action, reset, draw))
        found = super().observe(self.initial(rows, tokens.device), *alone)
        return Sequence(*(x[:, 0].unflatten(0, reset.shape) for x in found))

    def steps(self, rows: int) -> Steps:
        return MemorylessSteps(self.scan_kernels(), rows)


class MemorylessSteps(Steps):
    def core(self, t: int, state: Tensor, base: Tensor, out: Tensor) -> None:
        super().core(t, torch.zeros_like(state), base, out)


class MemorylessRun(InlineRun):
    """Learns, acts and imagines with `MemorylessRSSM`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.agent.rssm.__class__ = MemorylessRSSM

    def _build_actor(self, used: int) -> Actor:
        actor = super()._build_actor(used)
        actor.policy.packed = None  # type: ignore[attr-defined]  # its copy of the weights has the memory
        return actor


def paying_for_speed(run: InlineRun, bonus: float) -> Callable[[int], Sample]:
    """The run's batches, with a `bonus` on the reward of every step at which the pendulum turns faster than 1 rad/s in
    one direction. Replay, and with it every report, has the real rewards."""

    def source(number: int) -> Sample:
        rows, keys = run.learner.sample(number)
        fast = (rows["vector"][..., 2] > 1.0) & ~rows["is_first"]
        return rows | {"reward": rows["reward"] + np.float32(bonus) * fast}, keys

    return source
