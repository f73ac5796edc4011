"""Progress of the episodes played for a score: a bar in a terminal, a plain line from time to time elsewhere."""

import time
from collections.abc import Callable, Sequence
from statistics import fmean

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actors.batch_environment import Episode, score_text
from deploy.reports.display import duration


class EpisodeProgress:
    """A context manager; `update` may be called at every step. The bar disappears at the end; a plain line is printed
    every `line_seconds`. Written to standard error, so that the output holds only the scores."""

    def __init__(
        self,
        title: str,
        total: int,
        *,
        console: Console | None = None,
        line_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._total, self._line_seconds, self._clock = title, total, line_seconds, clock
        self._console = console or Console(stderr=True)
        self._began = self._last_line = clock()
        self._done, self._score, self._frames = 0, 0.0, 0
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = (
            Live(get_renderable=self._bar, console=self._console, refresh_per_second=4, transient=True)
            if live
            else None
        )

    def __enter__(self) -> "EpisodeProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, finished: Sequence[Episode], frames: int) -> None:
        """`finished`: all episodes counted so far; `frames`: total played, including those of open episodes."""
        if len(finished) != self._done:
            self._done, self._score = len(finished), fmean(episode.score for episode in finished)
        self._frames, now = frames, self._clock()
        if not self._live and now - self._last_line >= self._line_seconds:
            self._last_line = now
            self._console.print(self.line(), soft_wrap=True, highlight=False, markup=False)

    def line(self) -> str:
        """`trained: 3/20 episodes, mean 85.2 so far, 1,240 frames/s, 0:12`."""
        elapsed = self._clock() - self._began
        parts = [f"{self._title}: {self._done:,}/{self._total:,} episodes"]
        parts += [f"mean {score_text(self._score)} so far"] if self._done else []
        parts += [f"{self._frames / elapsed:,.0f} frames/s"] if elapsed > 0 else []
        return ", ".join([*parts, duration(elapsed)])

    def _bar(self) -> RenderableType:
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        bar = ProgressBar(
            total=self._total, completed=self._done, width=None, complete_style="cyan", finished_style="green"
        )
        row.add_row(bar, Text(self.line()))
        return row
