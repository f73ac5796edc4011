"""`nexus plot`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deploy.commands.parsing import OptionalPath, parse, several
from deploy.exit_codes import FAILED


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Plot score against environment frames, aggregated over seeds."""

    logdirs: Annotated[Positional[tuple[Path, ...]], several("LOGDIR")]
    """Run directories."""
    baselines: Annotated[tuple[Path, ...], arg(metavar="FILE [...]", help_behavior_hint="(optional)")] = ()
    """Published curves to compare with: JSON lists (.json or .json.gz)."""
    value: Annotated[str, arg(metavar="COLUMN", help_behavior_hint="(default: score)")] = "score"
    """What to plot: a column of scores.jsonl, such as length, is_success or log/KEY/avg."""
    out: Path = Path("curves.png")
    """The picture: .png, .svg or .pdf."""
    export: OptionalPath = None
    """Also write the runs' points to this file, in the format of the baselines."""
    band: Literal["ci95", "minmax", "none"] = "ci95"
    """Spread over seeds: 95 % confidence interval, minimum to maximum, or none."""
    frames: Annotated[float | None, arg(help_behavior_hint="(default: all)")] = None
    """Last frame of the x-axis."""
    tasks: Annotated[tuple[str, ...], arg(metavar="TASK [...]", help_behavior_hint="(default: all)")] = ()
    """Plot only these tasks."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        Plot, arguments, prog="nexus plot",
        example="nexus plot runs/* --baselines dmc_proprio-dreamerv3.json.gz",
    )  # fmt: skip
    from deploy.reports.plot import plot as draw

    damaged = draw(
        given.logdirs, out=given.out, baselines=given.baselines, export_to=given.export, band=given.band,
        frames=given.frames, tasks=given.tasks, value=given.value, note=partial(print, file=sys.stderr),
    )  # fmt: skip
    print(given.out)
    return FAILED if damaged else 0
