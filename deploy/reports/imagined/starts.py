"""Start states out of real episodes, and what the policy then really got."""

import math
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from actors.trivial_policies import Arrays, Policy
from world_models.dreamer.acting import Carry


@dataclass(frozen=True, kw_only=True)
class Start:
    """A step of a real episode and the latent state that the policy had there."""

    episode: int
    """Its place among those of the evaluation, which are sorted by turn and then by environment."""
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
    """An episode in progress, or ended."""

    rewards: list[float] = field(default_factory=list)
    """On arriving in each step; that of the first counts for nothing."""
    kept: list[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=list)
    terminal: bool = False
    """It has ended by itself."""

    @property
    def last(self) -> int:
        """Its last step."""
        return len(self.rewards) - 1


class StartStates:
    """A policy that keeps `each` states of every episode that it plays, drawn uniformly with `seed` as they pass.

    `quota[i]` episodes of environment i count, the first ones: those still open when all have been played would be
    long ones. `limit`: steps after which a time limit cuts an episode; 0: as many as the longest had that was cut.
    """

    def __init__(self, policy: Policy, quota: list[int], each: int, horizon: int, seed: int, limit: int = 0):
        self.policy, self.quota, self.each, self.horizon = policy, list(quota), each, horizon
        self._limit = limit
        self._open = [_Open() for _ in quota]
        self._closed: list[list[_Open]] = [[] for _ in quota]
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
            now.terminal = bool(row["is_terminal"][i])
            self._closed[i].append(now)
            self.quota[i] -= 1
            return
        step = now.last
        place = step if step < self.each else int(self._rng.integers(step + 1))  # reservoir sampling
        if place < self.each:
            state = carry.state
            kept = (step, state.deter[i].float().cpu().numpy().copy(), state.stoch[i].float().cpu().numpy().copy())
            now.kept[place : place + 1] = [kept]

    @property
    def found(self) -> list[tuple[Start, Real]]:
        """The starts within whose horizon there is no time limit, by episode and step. Whether an episode ends by
        itself before the limit does not matter: to keep those that do would select by what followed."""
        episodes, limit = self._episodes(), self._limit_met()
        return [
            self._start(number, one, kept)
            for number, one in enumerate(episodes)
            for kept in sorted(one.kept, key=lambda kept: kept[0])
            if kept[0] + self.horizon <= (limit if one.terminal else min(limit, one.last))
        ]

    @property
    def cut(self) -> int:
        """Starts left out."""
        return sum(len(one.kept) for one in self._episodes()) - len(self.found)

    def _episodes(self) -> list[_Open]:
        """Those that have ended, in the order of `Evaluation.episodes`."""
        return [one for turn in zip_longest(*self._closed) for one in turn if one is not None]

    def _limit_met(self) -> float:
        return self._limit or max((one.last for one in self._episodes() if not one.terminal), default=math.inf)

    def _start(self, number: int, one: _Open, kept: tuple[int, np.ndarray, np.ndarray]) -> tuple[Start, Real]:
        step, deter, stoch = kept
        rewards = np.zeros(self.horizon)
        seen = one.rewards[step + 1 : step + 1 + self.horizon]
        rewards[: len(seen)] = seen
        end = step + self.horizon
        goes_on = one.last > end or (one.last == end and not one.terminal)
        return Start(episode=number, step=step, deter=deter, stoch=stoch), Real(rewards=rewards, goes_on=goes_on)
