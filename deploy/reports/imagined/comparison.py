"""Imagined against real returns, in numbers."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from actors.evaluation import confidence_interval

FEWEST = 3
"""Starts without which there is no correlation."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The mean of the means of the episodes, and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        between = f"  95 % interval [{self.low:.4g}, {self.high:.4g}]" if math.isfinite(self.low) else ""
        return f"{self.mean:>9.4g}{between}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Undiscounted returns over the horizon: N starts in episodes.

    Starts of one episode are alike, so intervals are Student's over the means of the episodes (`figure`).
    """

    imagined: np.ndarray
    """Mean over the rollouts of each start `[N H]`, summed up to each step."""
    real: np.ndarray
    """The same of what really followed."""
    episode: np.ndarray
    """Of each start `[N]`."""
    step: np.ndarray
    """In its episode, of each start `[N]`."""
    imagined_goes_on: np.ndarray
    """Probability that the episode goes on after the horizon `[N]`."""
    real_goes_on: np.ndarray
    """Whether it did `[N]`."""

    @property
    def error(self) -> np.ndarray:
        """Imagined less real return of each start `[N]`."""
        return np.asarray(self.imagined[:, -1] - self.real[:, -1])

    def figure(self, values: np.ndarray, least: float = -math.inf, most: float = math.inf) -> Figure:
        """The mean of `values` `[N]` over the episodes, each with the mean of its starts; its interval ends at `least`
        and `most`, between which all values are."""
        means = self.episode_means(values)
        low, high = confidence_interval(means)
        return Figure(mean=fmean(means), low=max(low, least), high=min(high, most))  # what is NaN stays so

    def episode_means(self, values: np.ndarray) -> list[float]:
        """The mean of `values` `[N]` in each episode."""
        return [float(values[self.episode == one].mean()) for one in np.unique(self.episode)]

    @property
    def correlation(self) -> float:
        """Pearson's, over the starts; NaN if there are few, or one of both is always the same."""
        pair = (self.imagined[:, -1], self.real[:, -1])
        if len(self.error) < FEWEST or any(float(np.ptp(one)) < 1e-9 for one in pair):
            return math.nan
        return float(np.corrcoef(*pair)[0, 1])

    def figures(self) -> dict[str, Figure]:
        """Everything but the correlation, by name."""
        return {
            "imagined": self.figure(self.imagined[:, -1]), "real": self.figure(self.real[:, -1]),
            "bias": self.figure(self.error), "error": self.figure(np.abs(self.error)),
            "imagined_goes_on": self.figure(self.imagined_goes_on, 0.0, 1.0),
            "real_goes_on": self.figure(self.real_goes_on.astype(np.float64), 0.0, 1.0),
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All figures, and the returns of each start; what is not known is null."""
        found: dict[str, Any] = {name: _finite(asdict(figure)) for name, figure in self.figures().items()}
        return found | _finite({"correlation": self.correlation}) | {
            "starts": [
                {"episode": int(episode), "step": int(step), "imagined": float(a), "real": float(b)}
                for episode, step, a, b in zip(
                    self.episode, self.step, self.imagined[:, -1], self.real[:, -1], strict=True
                )
            ]
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The table, and what it says about the policy."""
        figures = self.figures()
        titles = {
            "imagined": "imagined return", "real": "real return", "bias": "bias, imagined - real",
            "error": "absolute error of a start", "imagined_goes_on": "goes on after it, imagined",
            "real_goes_on": "goes on after it, real",
        }  # fmt: skip
        rows = [f"{title:<28}{figures[name]}" for name, title in titles.items()]
        correlation = self.correlation
        flat = "none: all real or all imagined returns are the same, or there are fewer than 3"
        rows.insert(4, f"{'correlation':<28}" + (f"{correlation:>9.3f}" if math.isfinite(correlation) else f"  {flat}"))
        return [*rows, self.verdict(figures["bias"])]

    def verdict(self, bias: Figure) -> str:
        """Whether the policy gets what it imagines."""
        if not math.isfinite(bias.low):
            return "One episode says nothing about the bias; play more."
        if bias.low > 0:
            return f"The policy imagines more than it gets, by {bias.mean:.4g} on average: the model is wrong."
        if bias.high < 0:
            return f"The policy gets more than it imagines, by {-bias.mean:.4g} on average."
        return "The interval of the bias contains 0: none is shown by these episodes."


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def summed(rewards: Sequence[np.ndarray]) -> np.ndarray:
    """Returns up to each step `[N H]` of rewards `[H]` each."""
    return np.cumsum(np.stack(list(rewards)), 1)
