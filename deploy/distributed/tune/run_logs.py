"""The logs of a run that another process writes, read as they grow."""

import json
import math
import os
from collections import deque
from pathlib import Path
from typing import Any

from deploy.reports.metrics import METRICS, SCORES
from deploy.reports.scoreboard import RECENT

_COUNTERS = ("frames", "updates", "time")


class GrowingLines:
    """The whole lines of a `.jsonl` log, each once, unless the log has been cut or replaced."""

    def __init__(self, path: Path):
        self.path, self._inode, self._offset = path, -1, 0

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The lines that are new, and whether they are the first: what was read before no longer counts."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())  # of this file, even if another has just taken its place
                anew = status.st_ino != self._inode or status.st_size < self._offset
                self._inode, self._offset = status.st_ino, 0 if anew else self._offset
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            anew, self._inode, self._offset = self._offset > 0, -1, 0
            return [], anew
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()], anew


class RunLogs:
    """The newest numbers of the run in `logdir`."""

    def __init__(self, logdir: Path):
        self._metrics, self._scores = GrowingLines(logdir / METRICS), GrowingLines(logdir / SCORES)
        self._line: dict[str, Any] = {}
        self._forget_episodes()

    def _forget_episodes(self) -> None:
        self._episode: dict[str, Any] = {}
        self._count = 0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._evaluation: tuple[int, list[float]] = (-1, [])  # updates, scores

    def read(self) -> bool:
        """Take in what has been written since the last call; True if there is a new line of metrics."""
        lines, anew = self._scores.read()
        if anew:
            self._forget_episodes()
        for line in lines:
            self._add(line)
        lines, anew = self._metrics.read()
        if lines or anew:
            self._line = lines[-1] if lines else {}
        return bool(lines)

    def _add(self, line: dict[str, Any]) -> None:
        self._episode = line
        score = line["score"] if line["score"] is not None else math.nan
        if line["kind"] == "train":
            self._count += 1
            self._recent.append(score)
        elif line["updates"] == self._evaluation[0]:
            self._evaluation[1].append(score)
        else:
            self._evaluation = (line["updates"], [score])

    def result(self) -> dict[str, Any]:
        """Numbers by name: the newest line of metrics, and `score`, the mean of the newest training episodes,
        `eval_score`, that of the newest evaluation, `frames`, `updates`, `episodes`. What is not known is NaN."""
        metrics = {k: math.nan if v is None else v for k, v in self._line.items() if k not in _COUNTERS}
        counts = {key: max(self._line.get(key, 0), self._episode.get(key, 0)) for key in ("frames", "updates")}
        return {
            **metrics, **counts, "episodes": self._count, "score": _mean(self._recent),
            "eval_score": _mean(self._evaluation[1]),
        }  # fmt: skip


def _mean(scores: "deque[float] | list[float]") -> float:
    return sum(scores) / len(scores) if scores else math.nan
