"""Reports of a run in progress: log lines, the live display, and the few numbers both need. Torch-free."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsFloat

from actors.batch_environment import Episode, score_text
from deploy.reports.episode_averages import RECENT, EpisodeAverages
from deploy.reports.hooks import Hooks
from deploy.reports.metrics import SCORES, Kind, MetricsWriter, episode_line, metrics_line, read_lines
from deploy.reports.progress import Progress, Status
from deploy.reports.prometheus import RunMetrics, serve
from deploy.reports.sinks import Sinks
from deploy.stored.offline import frames_per_update
from deploy.wiring.config import RunConfig
from learner.checkpoint import Checkpoints, read_document
from replay.counted import counted
from world_models.checkpoint_files import BEST

RUN_LOG = "run.log"
"""What a run has said, and why it failed, with the time of this machine."""
_OWN_PREFIXES = ("report/", "exploration/", "restarts/", "failures/", "fleet/", "gpu/", "time/")


def best_score(checkpoints: Checkpoints) -> float | None:
    """The mean score of the policy kept as `best`; None if there is none."""
    try:
        return float(read_document(checkpoints.path(BEST) / "score.json")["mean"])
    except (LookupError, TypeError, ValueError):
        return None


def is_solved(config: RunConfig, best: float | None) -> bool:
    """Whether a mean evaluation score reaches the one at which the run stops."""
    stop = config.evaluation.stop_score
    return bool(stop) and best is not None and best >= stop


def solved_text(config: RunConfig, mean: float, frames: int) -> str:
    """`solved: mean 500 >= 490 at 10,358 frames`."""
    return f"solved: mean {round(mean, 1):g} >= {config.evaluation.stop_score:g} at {frames:,} frames"


def solved_before(config: RunConfig, logdir: Path) -> str:
    """The message for a run that needs no more training; empty for any other."""
    try:
        kept = read_document(Checkpoints.of(logdir).path(BEST) / "score.json")
        mean, frames = float(kept["mean"]), int(kept["frames"])
    except (LookupError, TypeError, ValueError):
        return ""
    return solved_text(config, mean, frames) if is_solved(config, mean) else ""


class Scoreboard:
    """All reports of one run; a context manager."""

    def __init__(self, config: RunConfig, logdir: Path):
        self.config, self.logdir = config, logdir
        self.metrics = MetricsWriter(logdir)
        self.progress = Progress(
            task=config.task, total_frames=config.frames, train_ratio=config.learner.train_ratio, title=str(logdir),
            stop_score=config.evaluation.stop_score if config.evaluation.every else 0.0,
        )  # fmt: skip
        self.episodes = 0
        self.scores: deque[float] = deque(maxlen=RECENT)
        self.averages = EpisodeAverages()
        self.hooks = Hooks(config.hooks, self.note)
        self.eval_score: float | None = None
        self.best: float | None = None
        self.loss: float | None = None
        self.lag = self.lag_seconds = 0.0
        self.exported = RunMetrics()
        self._stop_serving: Callable[[], None] = lambda: None
        self._sinks: Sinks | None = None
        self._began: float | None = None
        self._start = (0, 0)
        self._status = Status(frames=0)

    def note(self, text: str) -> None:
        """Print a permanent line, and keep it in the run directory, which may outlive whoever reads the output."""
        self.progress.note(text)
        self._keep(text)

    def _keep(self, text: str) -> None:
        with suppress(OSError), (self.logdir / RUN_LOG).open("a") as file:  # a full disk is the logs' business
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def __enter__(self) -> "Scoreboard":
        if self.config.metrics_port:
            url, self._stop_serving = serve(self.exported, self.config.metrics_port, self.config.metrics_host)
            self.note(f"Prometheus metrics: {url}")
        self._sinks = Sinks(self.config, self.logdir, self.note)
        self.progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if isinstance(error[1], Exception):  # whoever handles it prints it
            self._keep(str(error[1]) or type(error[1]).__name__)
        self._stop_serving()
        self.progress.__exit__(*error)
        self.metrics.close()
        if self._sinks:
            self._sinks.close()

    def begin(self, frames: int, replayed: int) -> None:
        """Start measuring rates from these counts."""
        self._began, self._start = time.monotonic(), (frames, replayed)

    def episode(self, episode: Episode, updates: int) -> None:
        """Record a finished training episode; `updates`: the learner's count when it ended."""
        self.episodes += 1
        self.scores.append(episode.score)
        self._line(episode, episode.frames, updates, "train")

    def _line(
        self, episode: Episode, frames: int, updates: int, kind: Kind, protocol: Mapping[str, Any] | None = None
    ) -> None:
        own: dict[str, Any] = {
            "score": episode.score, "length": episode.length, "seed": episode.seed, "kind": kind,
            "backend": episode.backend, "protocol": protocol,
        }  # fmt: skip
        added = self.hooks.episode_end(episode_line(frames, updates, **own, metrics=episode.metrics))
        kept, notes = self.averages.add(replace(episode, metrics=episode.metrics | added), kind)
        self.metrics.episode(frames, updates, **own, metrics=kept)
        for note in notes:
            self.note(note)

    def evaluation(self, frames: int, updates: int, episodes: Sequence[Episode]) -> bool:
        """Record the evaluation episodes of the policy at these counts; True if their mean is the best so far."""
        self.averages.begin_evaluation()
        # The line has the seed and the back end itself.
        protocol = {"episodes": len(episodes), "actions": self.config.actor.actions}
        for episode in episodes:
            self._line(episode, frames, updates, "eval", protocol)
        self.eval_score = sum(episode.score for episode in episodes) / len(episodes)
        before = -math.inf if self.best is None else self.best
        if better := self.eval_score > before:
            self.best = self.eval_score
        self.note(
            f"evaluation at {frames:,} frames, update {updates:,}: mean {score_text(self.eval_score)} of "
            + counted(len(episodes), "episode")
            + (", the best so far" if better else f" (best {score_text(before)})")
        )
        if self.solved() and better:
            self.note(solved_text(self.config, self.eval_score, frames))
        return better

    def solved(self) -> bool:
        """Whether an evaluation has reached the score at which the run may stop."""
        return is_solved(self.config, self.best)

    def _rates(self, frames: int, replayed: int) -> tuple[float, float]:
        if self._began is None:
            return 0.0, 0.0
        seconds = max(1e-9, time.monotonic() - self._began)
        return (frames - self._start[0]) / seconds, (replayed - self._start[1]) / seconds

    def _score(self) -> float | None:
        return sum(self.scores) / len(self.scores) if self.scores else None

    def show(
        self, frames: int, steps: int, updates: int, replayed: int, replay: Mapping[str, float], doing: str
    ) -> None:
        """Refresh the live display."""
        env, train = self._rates(frames, replayed)
        self._show(
            Status(
                frames=frames, updates=updates, episodes=self.episodes, score=self._score(), eval_score=self.eval_score,
                fps_env=env, fps_train=train, train_ratio=replayed / max(1, steps), policy_lag=self.lag,
                replay_items=int(replay.get("items", 0)), replay_gb=replay.get("gb", 0.0), loss=self.loss, doing=doing,
            )
        )  # fmt: skip

    def starting(self, frames: int, updates: int, doing: str) -> None:
        """Refresh the live display of a run that continues from these counters and has no other numbers yet."""
        self._show(Status(frames=frames, updates=updates, eval_score=self.eval_score, doing=doing))

    def busy(self, doing: str) -> None:
        """Show what the run is doing, with the numbers shown last."""
        self._show(replace(self._status, doing=doing))

    def end(self) -> None:
        """Show that the run has ended and everything is saved."""
        self.busy("saved")

    def _show(self, status: Status) -> None:
        solved = self.solved()
        doing = ("solved; saving" if status.doing == "saving" else "solved") if solved else status.doing
        self._status = status
        self.progress.update(replace(status, solved=solved, doing=doing))

    def log(
        self, frames: int, steps: int, updates: int, replayed: int, replay: Mapping[str, float],
        values: Mapping[str, SupportsFloat],
    ) -> None:  # fmt: skip
        """Write one line of metrics; `values` are `report/...`, `exploration/...`, `restarts/...`, `failures/...`,
        `fleet/...`, `gpu/...`, `time/...`, or the learner's without `train/`."""
        env, train = self._rates(frames, replayed)
        line: dict[str, Any] = {
            key if key.startswith(_OWN_PREFIXES) else f"train/{key}": value for key, value in values.items()
        }
        line |= {
            "fps/env": env, "fps/train": train, "policy/lag": self.lag,
            "policy/lag_seconds": self.lag_seconds, "replay/ratio": replayed / max(1, steps),
            "replay/age": replay["age"], "replay/size_gb": replay["gb"], "replay/items": replay["items"],
        }  # fmt: skip
        if self.scores:
            line["episode/score"] = self._score()
        if self.eval_score is not None:
            line["eval/mean"] = self.eval_score
        line |= self.averages.means()
        line |= self.hooks.train_result(metrics_line(frames, updates, line))
        self.metrics.metrics(frames, updates, line)
        if self._sinks:
            self._sinks.log(frames, updates, line)
        self.exported.newest({name: float(value) for name, value in line.items()})

    def rewind(self, updates: int) -> None:
        """Drop what the logs hold of updates after `updates`, to which only the learner has gone back."""
        if each := frames_per_update(self.config):  # offline the frames are the learner's
            self.metrics.truncate(frames=updates * each, updates=updates)
        else:
            self.metrics.rewind(updates)

    def reload(self, frames: int, updates: int) -> None:
        """Continue from the logs, cut back to these counters, and from the best policy kept."""
        self.metrics.truncate(frames=frames, updates=updates)
        evaluations: dict[int, list[float]] = {}
        scores = self.logdir / SCORES
        for line in read_lines(scores, kind=str, updates=int) if scores.exists() else ():
            self.episodes += line["kind"] == "train"
            self.averages.read(line)
            if not isinstance(score := line.get("score"), (int, float)):  # it was not finite
                continue
            if line["kind"] == "train":
                self.scores.append(score)
            else:
                evaluations.setdefault(line["updates"], []).append(score)
        means = [sum(scores) / len(scores) for scores in evaluations.values()]
        if means:
            self.eval_score = means[-1]
        kept = best_score(Checkpoints.of(self.logdir))
        self.best = max([*means, *([] if kept is None else [kept])], default=None)

    def state(self) -> dict[str, Any]:
        """For checkpoints (JSON)."""
        return {
            "episodes": self.episodes, "scores": list(self.scores), "eval_score": self.eval_score, "best": self.best,
            "averages": self.averages.state(), "metrics": self.metrics.state(),
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; log lines written after it are cut."""
        self.episodes, self.eval_score, self.best = state["episodes"], state["eval_score"], state["best"]
        self.scores.extend(state["scores"])
        self.averages.load(state.get("averages", {}))  # a checkpoint of an older version has none
        self.metrics.load(state["metrics"])
