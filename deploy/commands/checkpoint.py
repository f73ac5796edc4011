"""`nexus checkpoint`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from deploy.commands.numbers import Positive
from deploy.commands.parsing import parse
from deploy.commands.waiting import Progress, reach
from learner.checkpoint import Checkpoints


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Save a run in progress now, and print the path of the checkpoint."""

    run: Positional[Path]
    """A run directory, or the name of a launched run."""
    address: str = ""
    """HOST:PORT (or `auto`) of the Ray cluster that the run is in, for a machine that does not see its directory."""
    timeout: Positive = 300
    """Seconds to wait for it."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Checkpoint, arguments, prog="nexus checkpoint", example="nexus checkpoint runs/cartpole")
    there = reach(given.run, given.address)
    answer = there.ask({"checkpoint": True}, given.timeout, Progress("the checkpoint"))
    print(Checkpoints.of(Path(there.name)).path(int(answer["checkpoint"])))
    return 0
