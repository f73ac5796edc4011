"""`nexus stop`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from deploy.commands.numbers import Positive
from deploy.commands.parsing import parse
from deploy.commands.waiting import Progress, state_of, wait_until
from deploy.exit_codes import FAILED
from deploy.stored.control import active, ask
from deploy.stored.run_status import read_status


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Save and end a run in progress."""

    run: Positional[Path]
    """A run directory."""
    timeout: Positive = 300
    """Seconds to wait until it has ended."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Stop, arguments, prog="nexus stop", example="nexus stop runs/cartpole")
    ask(given.run, {"stop": True}, given.timeout, Progress("the run to answer"))

    def ended() -> str:
        return "" if active(given.run) else "ended"

    wait_until(ended, given.run, lambda: f"the run is {state_of(given.run)}", given.timeout)
    status = read_status(given.run)
    if not ended():
        print(f"The run in {given.run} has not ended within {given.timeout} s; it is {state_of(given.run)}.",
              file=sys.stderr)  # fmt: skip
        return FAILED
    if status.get("state") != "ended":
        print(f"The run in {given.run} has ended badly ({state_of(given.run)}): {status.get('reason', 'unknown')}",
              file=sys.stderr)  # fmt: skip
        return FAILED
    print(f"stopped and saved at {status.get('frames', 0):,} frames, update {status.get('updates', 0):,}")
    return 0
