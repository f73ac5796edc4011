"""Averages over recent episodes of the metrics that their environments report: `episode/NAME` and `eval/NAME`."""

from collections import deque
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from actors.batch_environment import Episode
from actors.episode_metrics import Names, achievement_score
from deploy.reports.metrics import EPISODE_KEYS, Kind

RECENT = 20
"""Training episodes that an average covers, of those that have the metric."""
_NOTES = 100  # lines that a run says about metrics


class EpisodeAverages:
    """Of the training episodes the latest that have a metric, of evaluations the latest."""

    def __init__(self) -> None:
        self._names = Names()
        self._recent: dict[str, deque[float]] = {}
        self._evaluation: dict[str, list[float]] = {}
        self._updates = -1  # of the evaluation that is read from the log
        self._said: set[str] = set()

    def add(self, episode: Episode, kind: Kind) -> tuple[dict[str, float], list[str]]:
        """Count an episode. Returns those of its metrics that are kept, and the notes that are new."""
        notes = [*episode.notes, *self._names.admit(episode.metrics)]
        kept = {name: value for name, value in episode.metrics.items() if name in self._names}
        self._count(kept, kind)
        new = [note for note in dict.fromkeys(notes) if note not in self._said][: _NOTES - len(self._said)]
        self._said.update(new)
        return kept, new

    def begin_evaluation(self) -> None:
        """The next evaluation episodes belong to a new evaluation."""
        self._evaluation = {}

    def means(self) -> dict[str, float]:
        """`episode/NAME` and `eval/NAME` for every metric that a recent episode had, and `crafter_score` if there are
        achievements."""
        out: dict[str, float] = {}
        for group, metrics in (("episode", self._recent), ("eval", self._evaluation)):
            out |= {f"{group}/{name}": fmean(values) for name, values in sorted(metrics.items())}
            if (score := achievement_score(metrics)) is not None:
                out[f"{group}/crafter_score"] = score
        return out

    def read(self, line: Mapping[str, Any]) -> None:
        """Count the episode of a line of scores.jsonl."""
        numbers = {
            key: value
            for key, value in line.items()
            if key not in EPISODE_KEYS and isinstance(value, int | float)
        }  # fmt: skip
        if line["kind"] == "eval" and line["updates"] != self._updates:
            self._updates = line["updates"]
            self.begin_evaluation()
        self._names.admit(numbers)
        self._count({key: value for key, value in numbers.items() if key in self._names}, line["kind"])

    def _count(self, metrics: Mapping[str, float], kind: Kind) -> None:
        for name, value in metrics.items():
            if kind == "train":
                self._recent.setdefault(name, deque(maxlen=RECENT)).append(value)
            else:
                self._evaluation.setdefault(name, []).append(value)

    def state(self) -> dict[str, dict[str, list[float]]]:
        """For checkpoints (JSON)."""
        return {
            "recent": {name: list(values) for name, values in self._recent.items()},
            "evaluation": {name: list(values) for name, values in self._evaluation.items()},
        }

    def load(self, state: Mapping[str, Mapping[str, list[float]]]) -> None:
        """Continue from `state`."""
        recent, evaluation = state.get("recent", {}), state.get("evaluation", {})
        self._names.admit([*recent, *evaluation])
        self._recent = {name: deque(values, maxlen=RECENT) for name, values in recent.items()}
        self._evaluation = {name: list(values) for name, values in evaluation.items()}
