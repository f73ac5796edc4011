"""Performance profiles of methods on benchmarks, drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deploy.reports.comparison.numbers import Standing
from deploy.reports.figure_style import FAINT, STYLE
from deploy.reports.plot import label_of
from deploy.reports.statistics import profile, profile_thresholds
from replay.files.whole_file import whole_file

COLOURS = {"dreamerv3": "#0b6e8f", "ppo_fixhp": "#e8963a", "sac": "#7a4fa3"}
OTHERS = ("#2f8f5b", "#d1495b", "#3b4ba3")


def draw_profiles(standings: Sequence[Standing], out: Path) -> bool:
    """One panel for each benchmark with scores; False, and no picture, if there is none."""
    known = [one for one in standings if one.scores]
    benchmarks = list(dict.fromkeys(one.benchmark for one in known))
    if not benchmarks:
        return False
    with rc_context(STYLE), whole_file(out) as fresh:
        lines: dict[str, Line2D] = {}
        figure = Figure(figsize=(1.0 + 4.2 * len(benchmarks), 3.9), layout="constrained")
        for axes, benchmark in zip(figure.subplots(1, len(benchmarks), squeeze=False)[0], benchmarks, strict=True):
            thresholds = profile_thresholds("human" if benchmark.prefix == "atari_" else "maximum")
            largest = thresholds[-1]
            methods = [one for one in known if one.benchmark == benchmark]
            for number, one in enumerate(methods):
                scores = [np.array(values) for values in one.scores.values()]
                found = profile(scores, thresholds)
                colour = COLOURS.get(one.method, OTHERS[number % len(OTHERS)])
                axes.fill_between(found.thresholds, found.low, found.high, color=colour, alpha=0.16, linewidth=0)
                (line,) = axes.plot(found.thresholds, found.share, color=colour, linewidth=2.2)
                lines.setdefault(label_of(one.method), line)
            axes.set_title(benchmark.name, loc="left", fontweight="bold", fontsize=11)
            axes.set_xlabel(f"score (1: {benchmark.one})")
            axes.set(xlim=(0, largest), ylim=(0, 1.02))
        figure.supylabel("share of runs above that score, 95 % interval", fontsize=10, color=FAINT)
        figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=len(lines), frameon=False)
        figure.savefig(fresh, dpi=160, facecolor="white", format="png")
    return True
