"""The progress display of a run: score, rates, replay."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from actors.batch_environment import score_text
from deploy.reports.display import UNKNOWN, Curve, Display, duration, short
from replay.byte_size import byte_size


@dataclass(frozen=True, kw_only=True)
class Status:
    """A run's numbers at one moment; None means unknown so far."""

    frames: int
    updates: int = 0
    episodes: int = 0
    score: float | None = None  # mean of the latest training episodes
    eval_score: float | None = None
    fps_env: float | None = None  # environment frames a second
    fps_train: float | None = None  # replayed frames a second
    train_ratio: float | None = None  # replayed steps per environment step, so far
    policy_lag: float | None = None  # updates between the learner and the policy that acts
    replay_items: int | None = None
    replay_gb: float | None = None
    loss: float | None = None
    doing: str = ""  # what the run is doing, e.g. "filling replay"
    solved: bool = False  # nothing is left to do, whatever the frame count


class Progress(Display):
    """Shows the newest `Status`."""

    def __init__(
        self,
        *,
        task: str,
        total_frames: int,
        train_ratio: float,
        stop_score: float = 0.0,
        title: str = "",
        console: Console | None = None,
        line_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.train_ratio, self._stop_score = train_ratio, stop_score
        self._scores: list[float] = []
        self._status = Status(frames=0)
        super().__init__(
            name=task, total=total_frames, unit="frames", title=title, console=console, line_seconds=line_seconds,
            clock=clock,
        )  # fmt: skip

    def update(self, status: Status) -> None:
        if status.score is not None and status.score != self._status.score:
            self._scores.append(status.score)
        if self._status.updates == 0 < self.train_ratio:  # filling replay has a different pace
            self.pace_changes()
        self._status = status
        self.done(status.frames, status.doing, finished=status.solved)

    def numbers(self) -> list[tuple[str, str]]:
        status = self._status
        ratio = UNKNOWN if status.train_ratio is None else f"{status.train_ratio:.3g} of {self.train_ratio:g}"
        replay = UNKNOWN if status.replay_items is None else short(status.replay_items)
        if status.replay_items is not None and status.replay_gb is not None:
            replay += f" ({byte_size(1e9 * status.replay_gb)})"
        eta = self.eta()
        bound = "at most " if self._stop_score else ""
        return [
            ("score", _score(status.score)),
            ("eval", _score(status.eval_score)),
            *([("stops at eval", f"{self._stop_score:g}")] if self._stop_score else []),
            ("episodes", f"{status.episodes:,}"),
            ("updates", f"{status.updates:,}"),
            ("frames/s", short(status.fps_env)),
            ("replayed/s", short(status.fps_train)),
            ("train ratio", ratio),
            ("policy lag", short(status.policy_lag)),
            ("replay", replay),
            ("loss", UNKNOWN if status.loss is None else f"{status.loss:.4g}"),
            ("elapsed", self.elapsed()),
            ("ETA", UNKNOWN if eta is None else bound + duration(eta)),
        ]

    def curve(self) -> Curve | None:
        return Curve("score", self._scores, f"best {_score(max(self._scores))}") if len(self._scores) > 1 else None


def _score(value: float | None) -> str:
    return UNKNOWN if value is None else score_text(value)
