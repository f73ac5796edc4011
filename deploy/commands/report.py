"""`nexus report`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deploy.commands.parsing import parse
from deploy.wiring.output_path import require_writable_folder


@dataclass(frozen=True, kw_only=True)
class Report:
    """Report final scores, curves, frames to a score and cost of runs, and the table of benchmarks.

    Numbers come from the runs' logs and from score files alone; a cell without a score file says "no data".
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [...]", help_behavior_hint="(optional)")] = ()
    """Run directories, of `nexus train` and `nexus baseline`."""
    baselines: Annotated[tuple[Path, ...], arg(metavar="FILE [...]", help_behavior_hint="(optional)")] = ()
    """Published scores: JSON lists (.json or .json.gz), named after their benchmark: atari100k-, dmc_proprio- or
    dmc_vision-METHOD.json.gz."""
    out: Path = Path("report")
    """Folder for report.md with its pictures, and report.html, which needs no other file."""
    frames: Annotated[float | None, arg(help_behavior_hint="(default: the end of the shortest run)")] = None
    """Where the runs' scores are compared."""
    scores: Annotated[tuple[float, ...], arg(metavar="SCORE [...]", help_behavior_hint="(default: the task's)")] = ()
    """Scores to count frames to."""
    title: str = "Report"
    """The heading."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        Report, arguments, prog="nexus report", example="nexus report runs/* --baselines scores/*.json.gz --out report"
    )
    require_writable_folder(given.out, "--out")
    if given.frames is not None and not 0 < given.frames < 1e15:
        raise ValueError(f"--frames {given.frames:g} must be above 0.")
    from deploy.reports.comparison.report import write_report

    for file in write_report(
        given.runs, given.out, baselines=given.baselines, frames=given.frames, scores=given.scores, title=given.title,
        note=partial(print, file=sys.stderr),
    ):  # fmt: skip
        print(file)
    return 0
