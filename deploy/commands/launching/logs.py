"""`nexus logs`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deploy.commands.launching.following import follow
from deploy.commands.parsing import parse
from deploy.commands.waiting import job_at
from deploy.exit_codes import FAILED
from deploy.launch import records
from deploy.launch.targets import target_of
from deploy.reports.scoreboard import RUN_LOG
from deploy.run_failed import RunFailedError


@dataclass(frozen=True, kw_only=True)
class Logs:
    """Print what a launched run has printed."""

    name: Positional[str]
    """Of a launched run (nexus jobs), or its run directory."""
    address: Annotated[str, arg(help_behavior_hint="(optional)", metavar="http://HOST:PORT")] = ""
    """Of the job server of a Ray cluster, for a run that others have launched."""
    follow: bool = False
    """Go on until it ends; Ctrl-C ends this command alone."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Logs, arguments, prog="nexus logs", example="nexus logs gym-cartpole-v1-seed0 --follow")
    job = job_at(given.address, given.name) if given.address else records.read(given.name)
    try:
        target = target_of(job)
        if given.follow:
            return follow(target, job)
        for piece in target.logs(job, follow=False):
            print(piece, end="")
    except RunFailedError as error:
        if not (kept := Path(job.logdir) / RUN_LOG).is_file():
            raise
        print(error, f"What the run has said is kept in {kept}.", sep="\n", file=sys.stderr)
        if given.follow:
            return FAILED
        print(kept.read_text(errors="replace"), end="")
    return 0
