"""`nexus profile`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from actors.envs import suite_of
from deploy.commands.numbers import Positive
from deploy.commands.parsing import option_names, parse_known
from deploy.commands.train import Train, parse_train
from deploy.commands.waiting import directory_of
from world_models.checkpoint_files import RUN_CONFIG

EXAMPLE = "nexus profile gym:CartPole-v1 --preset quick"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Time the stages of updates on real batches, against this hardware's limits.

    A run's newest agent learns from its newest steps; the run is not changed.

    A task's new agent learns from random steps, with options of nexus train.
    """

    target: Annotated[Positional[str], arg(metavar="RUN|TASK")]
    """A run directory or the name of a launched run; or a task, as for nexus train."""
    updates: Positive = 5
    """Updates that are timed."""
    json: bool = False
    """Print one JSON object."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given, options = parse_known(
        Profile, arguments, prog="nexus profile", example=EXAMPLE, others=tuple(option_names(Train))
    )
    path = directory_of(Path(given.target))
    if (path / RUN_CONFIG).exists() and options:
        raise ValueError(f"{path} is a run and has its options; leave out {options[0]}, or name a task.")
    if not (path / RUN_CONFIG).exists() and not suite_of(given.target):
        raise ValueError(f"There is no run in {given.target}; give a run directory, the name of a launch or a task.")
    config = None if (path / RUN_CONFIG).exists() else parse_train([given.target, *options])
    from deploy.reports.cost.batches import learner_of_run, learner_of_task
    from deploy.reports.cost.profiling import lines, profile
    from learner.freed_memory import keep_freed_memory

    keep_freed_memory()
    with learner_of_task(config) if config else learner_of_run(path) as (used, learner):
        found = profile(learner, given.updates)
    if given.json:
        print(json.dumps({"task": used.task, **found.to_json()}, indent=1))
    else:
        batch = f"batch {used.learner.batch_size} x {used.learner.batch_length}"
        print(f"{used.task}, {batch}, {used.model.imagination_length} steps imagined", *lines(found), sep="\n")
        if config and (processes := config.learner.processes) > 1:
            print(f"One of {processes} processes, with its share of a batch; the exchange of gradients is left out.")
    return 0
