"""`nexus plot`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="nexus plot", description="Draw score curves: frames against score, seeds aggregated.",
        epilog="example: nexus plot runs/* --baselines dmc_proprio-dreamerv3.json.gz --out curves.png",
    )  # fmt: skip
    parser.add_argument("logdirs", nargs="+", type=Path)
    parser.add_argument("--baselines", nargs="*", default=[], type=Path, help="JSON(.gz) lists of published curves")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help=".png, .svg or .pdf")
    parser.add_argument("--export", type=Path, help="write the runs' points in the baselines' format")
    parser.add_argument("--band", choices=("ci95", "minmax", "none"), default="ci95")
    parser.add_argument("--frames", type=float, help="where the x-axis ends")
    parser.add_argument("--tasks", nargs="*", default=[], help="only these tasks")
    known = parser.parse_args(arguments)
    from deploy.reports.plot import plot as draw

    damaged = draw(
        known.logdirs, out=known.out, baselines=known.baselines, export_to=known.export, band=known.band,
        frames=known.frames, tasks=known.tasks, note=partial(print, file=sys.stderr),
    )  # fmt: skip
    print(known.out)
    return 1 if damaged else 0
