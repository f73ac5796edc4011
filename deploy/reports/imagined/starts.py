"""Start states out of real episodes, and what the policy then really got."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actors.trivial_policies import Arrays, Policy
from world_models.dreamer.acting import Carry


@dataclass(frozen=True, kw_only=True)
class Start:
    """A step of a real episode and the latent state that the policy had there."""

    episode: int
    step: int
    deter: np.ndarray
    """Float32 `[D]`."""
    stoch: np.ndarray
    """One-hot float32 `[S C]`."""


@dataclass(frozen=True, kw_only=True)
class Real:
    """What followed on a start within the horizon."""

    rewards: np.ndarray
    """Of each of H steps, 0 after the end of the episode: float64 `[H]`."""
    goes_on: bool
    """The episode had not ended after them."""


@dataclass(kw_only=True)
class _Open:
    """An episode in progress."""

    rewards: list[float] = field(default_factory=list)
    """On arriving in each step; that of the first counts for nothing."""
    kept: list[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=list)


class StartStates:
    """A policy that keeps `each` states of every episode that it plays, drawn uniformly with `seed` as they pass.

    `quota[i]` episodes of environment i count, the first ones: those still open when all have been played would be
    long ones.
    """

    def __init__(self, policy: Policy, quota: list[int], each: int, horizon: int, seed: int):
        self.policy, self.quota, self.each, self.horizon = policy, list(quota), each, horizon
        self.found: list[tuple[Start, Real]] = []
        self.cut = 0
        """Starts left out, since a time limit ended their episode within the horizon."""
        self._open = [_Open() for _ in quota]
        self._episodes = 0
        self._rng = np.random.default_rng([seed, 3])

    def initial(self, rows: int) -> Any:
        return self.policy.initial(rows)

    def act(self, carry: Carry, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[Carry, Arrays, Arrays]:
        carry, actions, latents = self.policy.act(carry, observation, is_first, draw)
        for i in np.flatnonzero(self.quota):
            self._step(int(i), carry, observation, bool(is_first[i]))
        return carry, actions, latents

    def _step(self, i: int, carry: Carry, row: Arrays, first: bool) -> None:
        if first:
            self._open[i] = _Open()
        now = self._open[i]
        now.rewards.append(float(row["reward"][i]))
        if row["is_last"][i]:
            self._close(now, bool(row["is_terminal"][i]))
            self.quota[i] -= 1
            return
        step = len(now.rewards) - 1
        place = step if step < self.each else int(self._rng.integers(step + 1))  # reservoir sampling
        if place < self.each:
            state = carry.state
            kept = (step, state.deter[i].float().cpu().numpy().copy(), state.stoch[i].float().cpu().numpy().copy())
            now.kept[place : place + 1] = [kept]

    def _close(self, now: _Open, terminal: bool) -> None:
        last = len(now.rewards) - 1
        for step, deter, stoch in sorted(now.kept, key=lambda one: one[0]):
            if not terminal and last < step + self.horizon:
                self.cut += 1
                continue
            rewards = np.zeros(self.horizon)
            seen = now.rewards[step + 1 : step + 1 + self.horizon]
            rewards[: len(seen)] = seen
            goes_on = last > step + self.horizon or (last == step + self.horizon and not terminal)
            start = Start(episode=self._episodes, step=step, deter=deter, stoch=stoch)
            self.found.append((start, Real(rewards=rewards, goes_on=goes_on)))
        self._episodes += 1
