"""`nexus launch`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from tyro.conf import arg

from deploy.commands.numbers import NotNegative
from deploy.commands.parsing import HELP, option_names, parse_known
from deploy.commands.train import Train
from deploy.launch import records
from deploy.launch.sweep import jobs
from deploy.launch.target import Target

EXAMPLE = "nexus launch gym:CartPole-v1 --preset quick --address http://head:8265"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Start runs elsewhere: nexus launch TASK [TASK ...] [options of this command and of nexus train].

    The same command continues runs that have ended or were lost. Several tasks, --seeds and --vary make a sweep: one
    job for each combination, placed as the target has room.
    """

    target: Literal["ray"] = "ray"
    """Where: a Ray cluster."""
    seeds: tuple[NotNegative, ...] = (0,)
    """One run for each."""
    vary: Annotated[tuple[str, ...], arg(metavar="OPTION=VALUE,VALUE ...")] = ()
    """Options of nexus train, with the values that runs are to have."""
    logdir: Annotated[str, arg(help_behavior_hint="(default: runs/TASK-seedSEED)")] = ""
    """Run directory, as the machines of the target see it; of several runs, the folder of theirs."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    tasks = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    given, options = parse_known(
        Launch, arguments[len(tasks) :], prog="nexus launch", example=EXAMPLE, others=tuple(option_names(Train))
    )
    if not tasks:
        raise ValueError(f"TASK comes first, e.g. {EXAMPLE}")
    logdir = PurePosixPath(Path(given.logdir or "runs").absolute())
    made = jobs(tasks, given.seeds, given.vary, logdir, options)
    raise NotImplementedError(made)
