"""The files `health/report-<updates>.json` of a run directory. Torch-free."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deploy.reports.curves import seconds_at_work
from replay.files.whole_file import whole_file

FOLDER = "health"
KEEP = 50
"""Number of newest reports that are kept."""


def report_files(logdir: Path) -> list[tuple[int, Path]]:
    """Update count and path of every report, oldest first."""
    found = []
    for path in (logdir / FOLDER).glob("report-*.json"):
        number = path.stem.removeprefix("report-")
        if number.isdecimal():
            found.append((int(number), path))
    return sorted(found)


def read_reports(logdir: Path) -> list[dict[str, Any]]:
    """The whole reports of a run, oldest first; damaged ones are left out."""
    return [report for _, path in report_files(logdir) if (report := _read(path))]


def write_report(logdir: Path, measured: Mapping[str, Any], frames: int) -> dict[str, Any]:
    """Write what the learner measured, with `frames`, the time and the cost since the report before; returns it all.

    Removes the oldest reports, and those of updates from which the run has gone back. Raises OSError.
    """
    now, updates = time.time(), int(measured["updates"])
    earlier: list[tuple[int, Path]] = []
    for number, path in report_files(logdir):
        if number < updates:
            earlier.append((number, path))
        else:
            path.unlink(missing_ok=True)
    report = {"updates": updates, "frames": frames, "time": round(now, 3)} | dict(measured)
    cost = _cost([_read(path) for _, path in earlier], report)
    if isinstance(cost, str):
        report |= {"cost": None, "missing": report["missing"] | {"cost": cost}}
    else:
        report["cost"] = cost
    with whole_file(logdir / FOLDER / f"report-{updates:08d}.json") as fresh:
        fresh.write_text(json.dumps(report, allow_nan=False))
    for _, path in earlier[: -KEEP + 1]:
        path.unlink(missing_ok=True)
    return report


def _cost(earlier: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> dict[str, float] | str:
    """A string says why it is not known."""
    known = [one for one in earlier if isinstance(one.get("time"), int | float) and isinstance(one.get("updates"), int)]
    if not known:
        return "The first report has none before it to measure time from."
    worked = seconds_at_work(np.array([one["time"] for one in (*known, report)], np.float64))
    elapsed, seconds = float(worked[-1] - worked[-2]), report["seconds"]
    if elapsed <= seconds:
        return "The clock was set back since the report before, so that the time between is not known."
    return {
        "seconds": seconds, "share": seconds / elapsed,
        "seconds_per_update": (elapsed - seconds) / (report["updates"] - known[-1]["updates"]),
        "updates_per_frame": report["updates"] / max(1, report["frames"]),
    }  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        report = json.loads(path.read_bytes())
        return report if isinstance(report, dict) else {}
    return {}
