"""`nexus jobs`."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from deploy.commands.parsing import parse
from deploy.launch import records
from deploy.launch.targets import target_of


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """List launched runs, newest first."""

    json: bool = False
    """One JSON object a line, for other programs."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Jobs, arguments, prog="nexus jobs", example="nexus jobs")
    for job in records.everything():
        state, why = target_of(job).state(job)
        if given.json:
            print(json.dumps(asdict(job) | {"state": state, "why": why}))
        else:
            print(f"{job.name:<30} {job.target:<8} {state:<11} {time.time() - job.time:.0f} s")
    return 0
