"""`nexus replay inspect`."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from deploy.commands.parsing import parse
from deploy.commands.stored_replay.source import ReplaySource
from deploy.exit_codes import FAILED


@dataclass(frozen=True, kw_only=True)
class Inspect(ReplaySource):
    """Report what is stored in a replay, and whether it is intact."""

    json: bool = False
    """Print everything as one JSON object."""
    quick: bool = False
    """Skip the checksums of data that need not be read otherwise."""
    all: bool = False
    """Count the episodes of all steps, not only the newest."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Inspect, arguments, prog="nexus replay inspect", example="nexus replay inspect runs/walker")
    from rich.console import Console

    from deploy.stored.report import inspect, show
    from deploy.stored.sources import open_all

    down: list[str] = []
    with ExitStack() as stack:
        readers = open_all(given.sources, given.prefix, stack, down, down)
        report = inspect(readers, verify=not given.quick, everything=given.all, down=down)
    if given.json:
        print(json.dumps(report, indent=1))
    else:
        show(report, Console(width=max(140, shutil.get_terminal_size().columns)))
    return 0 if report["healthy"] else FAILED
