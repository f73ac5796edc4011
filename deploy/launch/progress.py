"""How far a launched run is, as its directory shows it where this machine sees it. Torch-free."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from deploy.launch.target import Launched
from deploy.monitor.alerts import rules_of, wrong_with
from deploy.monitor.run import Run


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """What a run directory says; nothing if it is not visible."""

    state: str = ""
    """Of the run, if it is active."""
    waits_for: str = ""
    """In words, if its state is `waiting`."""
    frames: float = math.nan
    updates: float = math.nan
    score: float = math.nan
    """Mean of the newest training episodes."""
    alerts: list[dict[str, str]] = field(default_factory=list)
    """Kind and text of each that `nexus monitor` would raise."""


def progress_of(job: Launched) -> RunProgress:
    """How far a job's run is."""
    if not (path := Path(job.logdir)).is_dir():
        return RunProgress()
    run = Run(path, job.name)
    run.refresh()
    row = run.summary()
    alerts = [{"kind": kind, "text": text} for kind, text in wrong_with(run, rules_of(run), time.time())]
    reason = str(run.status.get("reason", ""))
    if not run.active:
        alerts = [{"kind": "failed", "text": reason}] if run.state() == "failed" and reason else []
    return RunProgress(
        state=row["state"] if run.active else "",
        waits_for=reason if row["state"] == "waiting" else "",
        frames=row["frames"],
        updates=row["updates"],
        score=row["score"],
        alerts=alerts,
    )
