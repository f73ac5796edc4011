"""Imagined against real returns as a picture: a point for each start, and the means by step."""

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deploy.reports.figure_style import FAINT, INK, STYLE
from deploy.reports.imagined.comparison import Comparison

_REAL, _IMAGINED, _ERROR = "#22262b", "#e07b1f", "#8a5bbd"


def comparison_figure(found: Comparison, title: str) -> Figure:
    """Left: the return over the horizon of each start, imagined against real. Right: returns up to each step, and their
    difference, with 95 % intervals over episodes."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.0, 4.2))
        points, steps, errors = figure.subplots(1, 3)
        figure.subplots_adjust(left=0.07, right=0.985, top=0.78, bottom=0.13, wspace=0.27)
        _points(points, found)
        _steps(steps, found)
        _errors(errors, found)
        starts, episodes = len(found.error), len(np.unique(found.episode))
        note = f"undiscounted, {found.real.shape[1]} steps from {starts} states of {episodes} real episodes"
        figure.text(0.02, 0.945, title, fontsize=13, fontweight="bold", va="center")
        figure.text(0.02, 0.885, note, fontsize=9.5, color=FAINT, va="center")
    return figure


def _points(axes: Axes, found: Comparison) -> None:
    imagined, real = found.imagined[:, -1], found.real[:, -1]
    low, high = float(min(imagined.min(), real.min())), float(max(imagined.max(), real.max()))
    room = 0.06 * (high - low) or max(0.1, 0.1 * abs(low))
    ends = (low - room, high + room)
    axes.plot(ends, ends, color=FAINT, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    axes.scatter(real, imagined, s=16, color=_IMAGINED, alpha=0.5, linewidths=0, zorder=2)
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_xlabel("real return")
    axes.set_ylabel("imagined return")
    _ticks(axes)
    axes.set_title("each start", loc="left", fontsize=10, color=INK)


def _steps(axes: Axes, found: Comparison) -> None:
    for values, colour, name in ((found.real, _REAL, "real"), (found.imagined, _IMAGINED, "imagined")):
        _curve(axes, found, values, colour, name)
    axes.legend(frameon=False, fontsize=9, loc="best")
    axes.set_title("mean return up to each step", loc="left", fontsize=10, color=INK)


def _errors(axes: Axes, found: Comparison) -> None:
    axes.axhline(0, color=FAINT, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    _curve(axes, found, found.imagined - found.real, _ERROR, "")
    axes.set_title("bias: imagined less real", loc="left", fontsize=10, color=INK)


def _curve(axes: Axes, found: Comparison, values: np.ndarray, colour: str, name: str) -> None:
    each = [found.figure(column) for column in values.T]
    steps = np.arange(1, len(each) + 1)
    axes.plot(steps, [one.mean for one in each], color=colour, linewidth=1.8, label=name, zorder=3)
    axes.fill_between(
        steps, [one.low for one in each], [one.high for one in each], color=colour, alpha=0.15, linewidth=0, zorder=2
    )
    axes.set_xlabel("steps after the start")
    axes.set_xlim(0.5, len(each) + 0.5)
    _ticks(axes)


def _ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=axes.get_xlabel().startswith("steps")))
    axes.yaxis.set_major_locator(MaxNLocator(5))
