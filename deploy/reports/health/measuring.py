"""Health reports of a run: files in `health/`, numbers for the log, a line when a verdict changes for the worse."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.reports.health.files import read_reports, write_report
from deploy.reports.health.verdicts import Verdict, unhealthy, verdicts
from deploy.wiring.config import RunConfig
from learner.checkpoint import disk_is_full
from learner.health.measure import Health
from learner.learner import Learner


def health_metrics(
    learner: Learner, config: RunConfig, logdir: Path, frames: int, note: Callable[[str], None], begun: float
) -> dict[str, float]:
    """Metrics `report/health/*` of the learner's current state; also writes the report. `note` is told of parts that
    have become unhealthy, or why the report cannot be written; a full disk raises OSError. `begun`: when all that is
    reported at this update was begun, by `time.perf_counter()`, since its cost is that of the whole."""
    every = [one for one in read_reports(logdir) if isinstance(one.get("updates"), int)]
    earlier = [one for one in every if one["updates"] < learner.updates]
    measured = Health(learner, earlier).report(on_policy=not config.offline)
    measured["seconds"] = time.perf_counter() - begun
    try:
        report = write_report(logdir, measured, frames)
    except OSError as error:
        if disk_is_full(error):
            raise
        note(f"No health report at update {learner.updates:,}: {error}")
        return _numbers(measured, [])
    known = {one.name for one in unhealthy(verdicts(earlier, config.health))}
    found = verdicts([*earlier, report], config.health)
    for one in unhealthy(found):
        if one.name not in known:
            note(f"World model, {one.title}: {one.text} {one.remedy}")
    return _numbers(report, found)


def _numbers(report: dict[str, Any], found: list[Verdict]) -> dict[str, float]:
    out = {f"report/health/{one.name}": one.value for one in found if one.value is not None}
    for part, names in (("returns", ("imagined_mean", "real_mean")), ("forgetting", ("oldest", "newest"))):
        measured = report.get(part) or {}
        out |= {f"report/health/{name}": measured[name] for name in names if measured.get(name) is not None}
    return out | {"report/health/seconds": report["seconds"]}
