"""Open-loop predictions of vectors and rewards as a figure: a row per dimension, a column per sequence, plus errors."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from deploy.reports.figure_style import FAINT, INK, STYLE
from learner.open_loop_report import OpenLoopReport

SEQUENCES, DIMENSIONS = 3, 7
_CONTEXT, _OPEN, _SHADE = "#1f9d74", "#e07b1f", "#eef5f2"


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One number over time: truth and prediction `[B T]`."""

    key: str
    name: str
    truth: np.ndarray
    prediction: np.ndarray
    discrete: bool


def open_loop_figure(report: OpenLoopReport, title: str) -> Figure:
    """Truth and prediction of the dimensions that vary most, the reward last, and their errors by horizon."""
    every = dimensions(report)
    shown = _pick(every)
    order = np.argsort(-report.valid.sum(1), kind="stable")[:SEQUENCES]
    columns = len(order)
    with rc_context(STYLE):
        height = 1.5 + 1.25 * len(shown)
        figure = Figure(figsize=(4.0 + 2.9 * columns, height))
        panels = figure.subplots(
            len(shown), columns + 1, squeeze=False, sharex="col", width_ratios=[1.0] * columns + [1.15]
        )
        figure.subplots_adjust(
            left=0.135, right=0.985, top=1 - 1.05 / height, bottom=0.5 / height, wspace=0.2, hspace=0.22
        )
        for row, dimension in zip(panels, shown, strict=True):
            for axes, sequence in zip(row, order, strict=False):
                _sequence(axes, report, dimension, int(sequence))
            _error(row[-1], report, dimension)
            for axes in row[1:-1]:
                axes.tick_params(labelleft=False)
                axes.set_ylim(row[0].get_ylim())
            box = row[0].get_position()
            figure.text(0.015, (box.y0 + box.y1) / 2, _short(dimension.name), fontsize=10, va="center")
        for number, axes in enumerate(panels[0][:-1]):
            axes.set_title(f"sequence {number + 1}", loc="left", fontsize=10, color=FAINT)
        panels[0][-1].set_title(f"mean error, {len(report.valid)} sequences", loc="left", fontsize=10, color=FAINT)
        for axes in panels[-1]:
            axes.set_xlabel("steps after the context")
        _head(figure, height, title, report, len(shown), len(every))
    return figure


def dimensions(report: OpenLoopReport) -> list[Dimension]:
    """Every element of every key that is not an image, and the reward last."""
    found = []
    for key, truth in report.truth.items():
        space = report.space.get(key)
        if space is not None and space.is_image:
            continue
        flat = [x.reshape(*x.shape[:2], -1).astype(np.float64) for x in (truth, report.prediction[key])]
        for index in range(flat[0].shape[-1]):
            place = ",".join(map(str, np.unravel_index(index, truth.shape[2:]))) if truth.shape[2:] else ""
            name = f"{key}[{place}]" if flat[0].shape[-1] > 1 else key
            found.append(
                Dimension(
                    key=key, name=name, truth=flat[0][..., index], prediction=flat[1][..., index],
                    discrete=space is not None and space.discrete,
                )
            )  # fmt: skip
    return found


def _pick(every: list[Dimension]) -> list[Dimension]:
    """The reward and the dimensions whose truth varies most (in symlog space), taken from keys in turn; in order."""
    *others, reward = every
    moves = [float((np.sign(d.truth) * np.log1p(np.abs(d.truth))).std()) for d in others]
    order = sorted(range(len(others)), key=lambda index: -moves[index])
    turns: Counter[str] = Counter()
    turn = {}
    for index in order:
        turn[index] = turns[others[index].key]
        turns[others[index].key] += 1
    best = sorted(order, key=turn.__getitem__)[:DIMENSIONS]
    return [*(others[index] for index in sorted(best)), reward]


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else f"{name[: most - 9]}…{name[-8:]}"


def _tick(value: float, _: object) -> str:
    return f"{value:,.4g}".replace("-", "\N{MINUS SIGN}")


def _sequence(axes: Axes, report: OpenLoopReport, dimension: Dimension, sequence: int) -> None:
    context = report.context
    steps = np.arange(report.valid.shape[1]) - context + 1  # the context ends at 0
    truth, prediction = dimension.truth[sequence], dimension.prediction[sequence]
    shown = np.where(report.valid[sequence], prediction, np.nan)
    style = "steps-mid" if dimension.discrete else "default"
    axes.axvspan(steps[0] - 0.5, 0.5, color=_SHADE, linewidth=0, zorder=0)
    axes.plot(steps, truth, color=INK, linewidth=2.6, alpha=0.3, drawstyle=style, solid_capstyle="round")
    axes.plot(steps[:context], shown[:context], color=_CONTEXT, linewidth=1.4, drawstyle=style)
    axes.plot(steps[context - 1 :], shown[context - 1 :], color=_OPEN, linewidth=1.6, drawstyle=style)
    every = dimension.truth
    low, high = float(every.min()), float(every.max())
    room = 0.25 * (high - low) or max(0.1, 0.1 * abs(low))
    axes.set_ylim(low - room, high + room)  # a prediction that diverges leaves the panel
    axes.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def _error(axes: Axes, report: OpenLoopReport, dimension: Dimension) -> None:
    context = report.context
    held = np.broadcast_to(dimension.truth[:, context - 1 : context], dimension.truth.shape)
    horizons = np.arange(1, report.valid.shape[1] - context + 1)
    for forecast, colour, line in ((dimension.prediction, _OPEN, "-"), (held, FAINT, (0, (3, 2)))):
        wrong = np.abs(forecast - dimension.truth)
        curve = report.horizon(np.minimum(wrong, 1) if dimension.discrete else wrong)
        axes.plot(horizons, curve, color=colour, linestyle=line, linewidth=1.8 if line == "-" else 1.2)
    axes.set_xlim(0.5, horizons[-1] + 0.5)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def _head(figure: Figure, height: float, title: str, report: OpenLoopReport, shown: int, every: int) -> None:
    note = "open-loop prediction" + (f" after {report.updates:,} updates" if report.updates else "")
    if shown < every:
        note += f"  ·  {shown} of {every} dimensions, those that vary most"
    figure.text(0.015, 1 - 0.3 / height, title, fontsize=13, fontweight="bold", va="center")
    figure.text(0.015, 1 - 0.56 / height, note, fontsize=9.5, color=FAINT, va="center")
    handles = [
        Line2D([], [], color=INK, alpha=0.3, linewidth=3),
        Line2D([], [], color=_CONTEXT, linewidth=2),
        Line2D([], [], color=_OPEN, linewidth=2),
        Line2D([], [], color=FAINT, linewidth=1.3, linestyle=(0, (3, 2))),
        Patch(color=_SHADE),
    ]
    labels = ["truth", "reconstruction", "prediction from actions alone", "last step held", "context"]
    figure.legend(
        handles, labels, loc="center right", bbox_to_anchor=(0.99, 1 - 0.42 / height), ncols=5, frameon=False,
        fontsize=9, handlelength=1.5, columnspacing=1.4,
    )  # fmt: skip
