"""The progress display of a run: a live panel in a terminal, plain lines elsewhere."""

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actors.batch_environment import score_text
from deploy.terminal import without_echo
from replay.byte_size import byte_size

_BARS = "▁▂▃▄▅▆▇█"
_RATE_WINDOW = 180.0  # seconds over which the ETA measures the rate


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


class Progress:
    """Shows the newest `Status`; a context manager.

    `update` may be called at any rate: the panel is redrawn four times a second, a plain line is printed every
    `line_seconds`. `note` prints a permanent line. Nothing here affects the run.
    """

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
        self._task, self._title = task, title
        self._total, self.train_ratio, self._stop_score = total_frames, train_ratio, stop_score
        self._console = console or Console()
        self._line_seconds, self._clock = line_seconds, clock
        self._began = clock()
        self._last_line = -float("inf")
        self._times: deque[tuple[float, int]] = deque()
        self._scores: list[float] = []
        self._status = self._printed = Status(frames=0)
        # A thread of rich draws the panel by calling `_panel`, so it always shows the newest status.
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._echo = ExitStack()
        self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=4) if live else None

    def __enter__(self) -> "Progress":
        if self._live:
            self._echo.enter_context(without_echo(self._console.file))
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            with self._echo:
                self._live.stop()
        elif self._status != self._printed:
            self._console.print(self.line(), soft_wrap=True, highlight=False)

    def update(self, status: Status) -> None:
        now = self._clock()
        if status.score is not None and status.score != self._status.score:
            self._scores.append(status.score)
        if self._status.updates == 0 < self.train_ratio:  # filling replay has a different pace
            self._times.clear()
        self._status = status
        self._times.append((now, status.frames))
        while len(self._times) > 2 and now - self._times[1][0] > _RATE_WINDOW:
            self._times.popleft()
        if not self._live and now - self._last_line >= self._line_seconds:
            self._last_line, self._printed = now, status
            self._console.print(self.line(), soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        """Prints a permanent line above the panel."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def eta(self) -> float | None:
        """Seconds to the last frame at the rate of the last minutes; None until training has a rate, and when nothing
        is left to do."""
        if self._status.solved:
            return None
        if len(self._times) < 2:
            return None
        (then, before), (now, after) = self._times[0], self._times[-1]
        if now <= then or after <= before:
            return None
        return max(0.0, (self._total - after) * (now - then) / (after - before))

    def line(self) -> str:
        """The newest status in one line."""
        status = self._status
        parts = [f"{status.frames:,}/{self._total:,} frames ({self._share():.0%})"]
        parts += [f"{name} {value}" for name, value in self._numbers() if value != "–"]
        if status.doing:
            parts.append(status.doing)
        return "  ".join(parts)

    def _share(self) -> float:
        return min(1.0, self._status.frames / max(1, self._total))

    def _numbers(self) -> list[tuple[str, str]]:
        status = self._status
        ratio = "–" if status.train_ratio is None else f"{status.train_ratio:.3g} of {self.train_ratio:g}"
        replay = "–" if status.replay_items is None else _count(status.replay_items)
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
            ("frames/s", _count(status.fps_env)),
            ("replayed/s", _count(status.fps_train)),
            ("train ratio", ratio),
            ("policy lag", _count(status.policy_lag)),
            ("replay", replay),
            ("loss", "–" if status.loss is None else f"{status.loss:.4g}"),
            ("elapsed", duration(self._clock() - self._began)),
            ("ETA", "–" if eta is None else bound + duration(eta)),
        ]

    def _panel(self) -> RenderableType:
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(
            ProgressBar(
                total=1.0,
                completed=1.0 if self._status.solved else self._share(),
                complete_style="cyan",
                finished_style="green",
            ),
            Text(f"{self._status.frames:,} / {self._total:,} frames", style="bold"),
        )
        grid = Table.grid(expand=True, padding=(0, 1))
        columns = 3 if self._console.width >= 84 else 2
        for _ in range(columns):
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(ratio=1, no_wrap=True)
        cells = [Text(text) for pair in self._numbers() for text in pair]
        for start in range(0, len(cells), 2 * columns):
            grid.add_row(*cells[start : start + 2 * columns])
        rows: list[RenderableType] = [bar, Text(), grid]
        if len(self._scores) > 1:
            best = f"  best {_score(max(self._scores))}"
            curve = sparkline(self._scores, max(8, self._console.width - len(best) - 12))
            rows += [Text(), Text.assemble(("score ", "dim"), (curve, "cyan"), (best, "dim"))]
        subtitle = Text(self._status.doing, style="italic") if self._status.doing else None
        title = Text.assemble(("Nexus", "bold cyan"), "  ", (self._task, "bold"), f"  {self._title}".rstrip())
        return Panel(Group(*rows), title=title, subtitle=subtitle, title_align="left", border_style="dim")


def sparkline(values: list[float], width: int) -> str:
    """At most `width` bars, each the mean of its share of the finite `values`, scaled from smallest to largest."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    width = min(width, len(values))
    edges = [len(values) * n // width for n in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def duration(seconds: float) -> str:
    """`4:05` or `2:04:05`, preceded by days if there are any."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if hours == 0:
        return f"{minute}:{second:02d}"
    return (f"{days}d " if days else "") + f"{hour}:{minute:02d}:{second:02d}"


def _score(value: float | None) -> str:
    return "–" if value is None else score_text(value)


def _count(value: float | None) -> str:
    if value is None:
        return "–"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.3g}{name}"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
