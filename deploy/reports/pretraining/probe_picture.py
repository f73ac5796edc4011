"""A picture of the scores of probes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.reports.figure_style import INK, STYLE
from replay.files.whole_file import whole_file

OWN, OTHER = "#2563eb", "#9ca3af"


def draw_scores(scores: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """A bar for each score, with its 95 % interval; those of the encoder itself are blue."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 0.9 + 0.36 * len(scores)))
        for place, one in enumerate(scores):
            value, (low, high) = one["accuracy"], one["interval95"]
            own = one["features"] in ("frozen", "fine-tuned")
            axis.barh(place, value, height=0.64, color=OWN if own else OTHER)
            ends = [[max(0.0, value - low)], [max(0.0, high - value)]]  # rounding may leave -1e-17
            axis.errorbar(value, place, xerr=ends, color=INK, capsize=3, linewidth=1)
            axis.text(high + 0.015, place, f"{value:.3f}", va="center")
        names = [f"{one['probe']}, {'encoder' if one['features'] == 'frozen' else one['features']}" for one in scores]
        axis.set_yticks(range(len(scores)), names)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.08)
        axis.set_xlabel("accuracy, 95 % interval")
        axis.grid(axis="y", visible=False)
        figure.tight_layout()
        with whole_file(file) as fresh:
            figure.savefig(fresh, dpi=150)
        plt.close(figure)
    return file
