"""The live display of a command that works for long: a panel in a terminal, plain lines elsewhere."""

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.terminal import without_echo

UNKNOWN = "–"
_BARS = "▁▂▃▄▅▆▇█"
_RATE_WINDOW = 180.0  # seconds over which the ETA measures the rate


class Curve(NamedTuple):
    """Values over time, drawn as a line of bars."""

    name: str
    values: list[float]
    remark: str
    """Shown after it."""


class Display:
    """Shows how much of `total` is done, and the numbers that a subclass has; a context manager.

    `done` may be called at any rate: the panel is redrawn four times a second, a plain line is printed every
    `line_seconds`. `note` prints a permanent line. Nothing here affects the run.
    """

    def __init__(
        self, *, name: str, total: int, unit: str, title: str = "", console: Console | None = None,
        line_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._name, self._total, self._unit, self._title = name, total, unit, title
        self._console = console or Console()
        self._line_seconds, self._clock = line_seconds, clock
        self._began = clock()
        self._last_line = -float("inf")
        self._times: deque[tuple[float, int]] = deque()
        self._count = 0
        self._doing = ""
        self._finished = False  # nothing is left to do, whatever the count
        self._printed = self._newest
        # A thread of rich draws the panel by calling `_panel`, so it always shows the newest numbers.
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._echo = ExitStack()
        self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=4) if live else None

    def numbers(self) -> list[tuple[str, str]]:
        """Names and values to show; a value may be UNKNOWN."""
        return []

    def curve(self) -> Curve | None:
        """What the panel shows as a curve."""
        return None

    def __enter__(self) -> Self:
        if self._live:
            self._echo.enter_context(without_echo(self._console.file))
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            with self._echo:
                self._live.stop()
        elif self._newest != self._printed:
            self._console.print(self.line(), soft_wrap=True, highlight=False)

    def done(self, count: int, doing: str = "", *, finished: bool = False) -> None:
        """Show that `count` of the total are done, and what is being done now."""
        now = self._clock()
        self._count, self._doing, self._finished = count, doing, finished
        self._times.append((now, count))
        while len(self._times) > 2 and now - self._times[1][0] > _RATE_WINDOW:
            self._times.popleft()
        if not self._live and now - self._last_line >= self._line_seconds:
            self._last_line, self._printed = now, self._newest
            self._console.print(self.line(), soft_wrap=True, highlight=False)

    def pace_changes(self) -> None:
        """Forget the rate so far."""
        self._times.clear()

    def note(self, text: str) -> None:
        """Prints a permanent line above the panel."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def elapsed(self) -> str:
        return duration(self._clock() - self._began)

    def eta(self) -> float | None:
        """Seconds to the end at the rate of the last minutes; None until there is a rate, and when nothing is left to
        do."""
        rate = None if self._finished else self.pace()
        return max(0.0, (self._total - self._count) / rate) if rate else None

    def pace(self) -> float | None:
        """How much was done in a second of the last minutes; None until that is known."""
        if len(self._times) < 2:
            return None
        (then, before), (now, after) = self._times[0], self._times[-1]
        return (after - before) / (now - then) if now > then else None

    def line(self) -> str:
        """The newest numbers in one line."""
        parts = [f"{self._count:,}/{self._total:,} {self._unit} ({self._share():.0%})"]
        parts += [f"{name} {value}" for name, value in self.numbers() if value != UNKNOWN]
        if self._doing:
            parts.append(self._doing)
        return "  ".join(parts)

    @property
    def _newest(self) -> tuple[int, str, bool]:
        return self._count, self._doing, self._finished

    def _share(self) -> float:
        return min(1.0, self._count / max(1, self._total))

    def _panel(self) -> RenderableType:
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(
            ProgressBar(
                total=1.0,
                completed=1.0 if self._finished else self._share(),
                complete_style="cyan",
                finished_style="green",
            ),
            Text(f"{self._count:,} / {self._total:,} {self._unit}", style="bold"),
        )
        grid = Table.grid(expand=True, padding=(0, 1))
        columns = 3 if self._console.width >= 84 else 2
        for _ in range(columns):
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(ratio=1, no_wrap=True)
        cells = [Text(text) for pair in self.numbers() for text in pair]
        for start in range(0, len(cells), 2 * columns):
            grid.add_row(*cells[start : start + 2 * columns])
        rows: list[RenderableType] = [bar, Text(), grid]
        if curve := self.curve():
            remark = f"  {curve.remark}"
            bars = sparkline(curve.values, max(8, self._console.width - len(remark) - len(curve.name) - 7))
            rows += [Text(), Text.assemble((f"{curve.name} ", "dim"), (bars, "cyan"), (remark, "dim"))]
        subtitle = Text(self._doing, style="italic") if self._doing else None
        title = Text.assemble(("Nexus", "bold cyan"), "  ", (self._name, "bold"), f"  {self._title}".rstrip())
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


def short(value: float | None) -> str:
    """Three digits, with k, M or G; UNKNOWN for None."""
    if value is None:
        return UNKNOWN
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.3g}{name}"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
