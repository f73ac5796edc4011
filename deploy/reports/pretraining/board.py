"""Reports of a pretraining run: log lines, the live display, and the few numbers both need. Torch-free."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from rich.console import Console

from deploy.reports.display import UNKNOWN, Curve, Display, duration, short
from deploy.reports.metrics import MetricsWriter
from deploy.wiring.pretraining import PretrainConfig


class PretrainProgress(Display):
    """Shows the newest numbers of a pretraining run."""

    def __init__(
        self, config: PretrainConfig, *, title: str = "", console: Console | None = None, line_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.unit = "images" if config.frames == 1 else "clips"
        self.values: dict[str, float] = {}
        self.speed: float | None = None  # images or clips a second
        self._losses: list[float] = []
        name = f"{config.command.removeprefix('pretrain ')}  {config.data.where}"
        super().__init__(
            name=name, total=config.training.updates, unit="updates", title=title, console=console,
            line_seconds=line_seconds, clock=clock,
        )  # fmt: skip

    def add(self, values: Mapping[str, float]) -> None:
        """Newer values of some metrics."""
        self.values |= values
        if "train/loss/total" in values:
            self._losses.append(values["train/loss/total"])

    def numbers(self) -> list[tuple[str, str]]:
        eta = self.eta()
        return [
            ("loss", self._shown("train/loss/total", ".4g")),
            ("held-out loss", self._shown("probe/loss", ".4g")),
            ("trivial", self._shown("probe/trivial_loss", ".4g")),
            ("linear probe", self._shown("probe/linear_accuracy", ".3f")),
            ("kNN", self._shown("probe/knn_accuracy", ".3f")),
            ("effective rank", self._shown("probe/effective_rank", ".1f")),
            ("learning rate", self._shown("train/optimizer/learning_rate", ".3g")),
            ("EMA", self._shown("train/target/momentum", ".5g")),
            (f"{self.unit}/s", short(self.speed)),
            ("unreadable", self._shown("data/unreadable", ",.0f") if self.values.get("data/unreadable") else UNKNOWN),
            ("elapsed", self.elapsed()),
            ("ETA", UNKNOWN if eta is None else duration(eta)),
        ]

    def curve(self) -> Curve | None:
        return Curve("loss", self._losses, f"now {self._losses[-1]:.4g}") if len(self._losses) > 1 else None

    def _shown(self, key: str, form: str) -> str:
        return format(self.values[key], form) if key in self.values else UNKNOWN


class PretrainBoard:
    """All reports of one pretraining run; a context manager."""

    def __init__(self, config: PretrainConfig, logdir: Path):
        self.config = config
        self.metrics = MetricsWriter(logdir)
        self.progress = PretrainProgress(config, title=str(logdir))
        self.note = self.progress.note
        self._began, self._start = 0.0, 0

    def __enter__(self) -> "PretrainBoard":
        self.progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.__exit__(*error)
        self.metrics.close()

    def begin(self, updates: int) -> None:
        """Start measuring the rate from this count."""
        self._began, self._start = time.monotonic(), updates

    def show(self, updates: int, doing: str) -> None:
        """Refresh the live display."""
        self.progress.speed = self._rate(updates)
        self.progress.done(updates, doing)

    def log(self, updates: int, values: Mapping[str, SupportsFloat]) -> None:
        """Write one line of metrics; `values` are `probe/...`, `data/...`, or the trainer's without `train/`."""
        line: dict[str, float] = {
            key if key.startswith(("probe/", "data/")) else f"train/{key}": float(value)
            for key, value in values.items()
        }
        self.progress.add(line)
        rate = self._rate(updates) or 0.0
        line |= {"fps/train": rate * self.config.frames, "fps/examples": rate}
        self.metrics.metrics(updates * self.config.training.batch_size * self.config.frames, updates, line)

    def state(self) -> dict[str, Any]:
        """For checkpoints (JSON)."""
        return {"metrics": self.metrics.state(), "values": self.progress.values}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; log lines written after it are cut."""
        self.metrics.load(state["metrics"])
        self.progress.add(state["values"])

    def _rate(self, updates: int) -> float | None:
        done = updates - self._start
        return done * self.config.training.batch_size / (time.monotonic() - self._began) if done > 0 else None
