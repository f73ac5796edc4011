"""`nexus stop`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from deploy.commands.numbers import Positive
from deploy.commands.parsing import parse
from deploy.commands.waiting import Progress, launched, reach, wait_until
from deploy.exit_codes import FAILED
from deploy.launch.targets import target_of
from deploy.stored.control import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Save and end a run in progress."""

    run: Positional[Path]
    """A run directory, or the name of a launched run."""
    address: str = ""
    """HOST:PORT (or `auto`) of the Ray cluster that the run is in, for a machine that does not see its directory; or
    http://HOST:PORT of its job server, for a run that others have launched."""
    timeout: Positive = 300
    """Seconds to wait until it has ended."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Stop, arguments, prog="nexus stop", example="nexus stop runs/cartpole")
    if job := launched(given.run, given.address):
        said, status = target_of(job).stop(job, given.timeout), RunDirectory(Path(job.logdir)).status()
        saved = "frames" in status and status.get("state") == "ended"
        print(f"{said}{f', {_saved(status)}' if saved else ''}")
        return 0
    there = reach(given.run, given.address)
    there.ask({"stop": True}, given.timeout, Progress("the run to answer"))
    seen = there.status()

    def ended() -> str:
        seen.update(there.status())
        return "" if there.active() else "ended"

    def progress() -> str:
        return f"the run has the state {seen.get('state', 'ending')}"

    over, status = wait_until(ended, there, progress, given.timeout), seen | there.status()
    if not over:
        print(f"The run {there.name} has not ended within {given.timeout} s; it is {status.get('state', 'ending')}.",
              file=sys.stderr)  # fmt: skip
        return FAILED
    if given.address:
        print(f"ended; the supervisor of {there.name} says whether everything was saved")
        return 0
    if status.get("state") != "ended":
        print(f"The run {there.name} has ended badly ({status.get('state')}): {status.get('reason', 'unknown')}",
              file=sys.stderr)  # fmt: skip
        return FAILED
    print(f"stopped and {_saved(status)}" if "frames" in status else "stopped before it had begun")
    return 0


def _saved(status: Mapping[str, Any]) -> str:
    return f"saved at {status.get('frames', 0):,} frames, update {status.get('updates', 0):,}"
