"""Scores of a policy over whole episodes, with confidence intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np

from actors.batch_environment import BatchEnvironment, Episode, score_text
from actors.environment import Environment
from actors.episode_metrics import ACHIEVEMENTS, achievement_score
from actors.pool import Pool
from actors.pool_environment import PoolEnvironment
from actors.trivial_policies import Policy
from actors.vector import VectorEnvironment
from replay.counted import counted

PARALLEL = 16
"""The most environments that an evaluation steps in parallel."""
FIRST_INDEX = 1 << 20
"""Index of the first evaluation environment, so that its seeds differ from those of training."""

Actions = Literal["sampled", "mode", "planned", "random"]
"""How a policy chose its actions: sampled from its distributions, their modes, by planning, or without looking."""
LONGEST = 30_000
"""Steps after which an evaluation episode counts as endless; Atari's longest have 27,000."""
PICTURES = 1500
"""The most frames kept for a video: they are large and all in memory."""


class EndlessEpisodeError(ValueError):
    """An evaluation episode does not end."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Finished episodes; `frames` uint8 [H W 3] each, if a video was requested."""

    episodes: list[Episode]
    actions: Actions = "sampled"
    frames: list[np.ndarray] = field(default_factory=list, repr=False)

    @property
    def scores(self) -> list[float]:
        return [episode.score for episode in self.episodes]

    @property
    def lengths(self) -> list[int]:
        """Length of each episode in frames."""
        return [episode.length for episode in self.episodes]

    @property
    def mean(self) -> float:
        return fmean(self.scores)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean score; NaN for a single episode."""
        return confidence_interval(self.scores)

    @property
    def protocol(self) -> dict[str, Any]:
        """How the scores came about (JSON): number of episodes, actions, their seeds in the order of the scores, and
        the program that simulated."""
        backends = sorted({episode.backend for episode in self.episodes})
        return {
            "episodes": len(self.episodes), "actions": self.actions,
            "seeds": [episode.seed for episode in self.episodes], "backend": ", ".join(filter(None, backends)),
        }  # fmt: skip

    @property
    def metrics(self) -> dict[str, list[float]]:
        """The values of each metric that the environment reported, of the episodes that have it."""
        found: dict[str, list[float]] = {}
        for episode in self.episodes:
            for name, value in episode.metrics.items():
                found.setdefault(name, []).append(value)
        return dict(sorted(found.items()))

    def __str__(self) -> str:
        scores = self.scores
        mean, low, high, least, most = map(score_text, (self.mean, *self.interval, min(scores), max(scores)))
        between = f"95 % interval [{low}, {high}]" if len(scores) > 1 else "no interval from one episode"
        return (
            f"mean {mean}, {between}, {counted(len(scores), 'episode')} from {least} to {most}, mean length "
            f"{fmean(self.lengths):.0f} frames"
        )


def confidence_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean by Student's t, `mean +- t s / sqrt(n)`; NaN for fewer than two values."""
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    from scipy.special import stdtrit  # imported here: it takes a third of a second

    half = float(stdtrit(count - 1, 0.975)) * stdev(values) / math.sqrt(count)
    return fmean(values) - half, fmean(values) + half


def describe_metrics(metrics: Mapping[str, Sequence[float]], episodes: int) -> list[str]:
    """`is_success: mean 0.8, 95 % interval [0.58, 0.92]`: a line for each metric of an evaluation of `episodes`, and
    one for Crafter's score if there are achievements."""
    lines = []
    for name, values in metrics.items():
        low, high = proportion_interval(values) if set(values) <= {0, 1} else confidence_interval(values)
        between = f", 95 % interval [{low:.3g}, {high:.3g}]" if len(values) > 1 else ""
        of = f", {len(values)} of {counted(episodes, 'episode')}" if len(values) < episodes else ""
        unlocked = sum(value > 0 for value in values)
        often = f", unlocked in {counted(unlocked, 'episode')}" if name.startswith(ACHIEVEMENTS) else ""
        lines.append(f"{name}: mean {fmean(values):.4g}{between}{of}{often}")
    if (score := achievement_score(metrics)) is not None:
        lines.append(f"Crafter score (geometric mean of the success rates of all achievements): {score:.2f} %")
    return lines


def proportion_interval(values: Sequence[float]) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate, within [0, 1], from outcomes that are 0 or 1: wide even if all are the same."""
    count, rate, z = len(values), fmean(values), 1.959964
    centre, half = rate + z * z / (2 * count), z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def run_episodes(
    makers: Sequence[Callable[[], Environment]],
    policy: Policy,
    episodes: int,
    seed: int,
    *,
    actions: Actions = "sampled",
    video_episodes: int = 0,
    longest: int = 0,
    first_index: int = FIRST_INDEX,
    pool: Callable[[int], Pool] | None = None,
    check: bool = True,
    watch: Callable[[Sequence[Episode], int], object] | None = None,
) -> Evaluation:
    """Play `episodes` episodes in one environment per maker and close them.

    Each environment plays a fixed share of them: taking whichever episodes end first would favour short ones. The first
    `video_episodes` episodes of the first environment are rendered. EndlessEpisodeError: an episode exceeds `longest`
    frames (default: those of 30,000 steps). `pool` makes a pool of N environments, which then play in place of those
    of N makers, with or without a `check` of what they answer. `watch` is called after every step with the episodes
    finished and the frames played so far. `actions` says how the policy chooses them.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes} must be at least 1.")
    makers = makers[:episodes]
    count = len(makers)
    indices = [first_index + i for i in range(count)]
    quota = {index: episodes // count + (i < episodes % count) for i, index in enumerate(indices)}
    finished: list[Episode] = []
    frames: list[np.ndarray] = []
    environments: BatchEnvironment = (
        PoolEnvironment(partial(pool, count), seed, indices, check=check)
        if pool
        else VectorEnvironment(makers, seed, indices)
    )
    longest = longest or LONGEST * environments.frames_per_step
    try:
        carry, taken, draw = policy.initial(count), None, 0
        while any(quota.values()):
            rows = environments.step(taken)
            if environments.episodes[0] < video_episodes and len(frames) < PICTURES:
                frames.append(environments.render(0))
            if environments.lengths.max() > longest:
                longest_seed = environments.seeds[int(environments.lengths.argmax())]
                which = f" (seed {longest_seed})" if longest_seed >= 0 else ""
                raise EndlessEpisodeError(
                    f"An evaluation episode{which} has lasted more than {counted(longest, 'frame')}; set "
                    "environment.time_limit so that episodes end."
                )
            for episode in environments.finished():
                if quota[episode.env_index]:
                    quota[episode.env_index] -= 1
                    finished.append(episode)
            if watch:
                watch(finished, draw * count * environments.frames_per_step)
            carry, taken, _ = policy.act(carry, rows, rows["is_first"], draw)
            draw += 1
    finally:
        environments.close()
    finished.sort(key=lambda episode: (episode.episode, episode.env_index))
    return Evaluation(episodes=finished, actions=actions, frames=frames)
