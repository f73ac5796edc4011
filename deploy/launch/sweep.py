"""The jobs of one `nexus launch`: every task with every seed and every setting. Torch-free."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from deploy.launch.job import Job, job_name
from deploy.wiring.config import RunConfig


def jobs(
    tasks: Sequence[str], seeds: Sequence[int], settings: Sequence[str], options: Sequence[str],
    parse: Callable[[Sequence[str]], RunConfig], folder: PurePosixPath, single: PurePosixPath | None = None,
) -> list[Job]:  # fmt: skip
    """Every combination as a job; `settings`: OPTION=VALUE,VALUE; `options`: of `nexus train`, for all of them, whose
    command line `parse` reads.

    Run directories lie in `folder`; `single`: that of a job that is the only one. ValueError: one message with what is
    wrong with any of them.
    """
    varied = [list(_values(setting)) for setting in settings]
    combinations = list(itertools.product(dict.fromkeys(tasks), itertools.product(*varied), dict.fromkeys(seeds)))
    made: dict[str, Job] = {}
    for task, chosen, seed in combinations:
        name = job_name(
            "-".join([task, *(f"{option.rpartition('.')[2]}-{value}" for option, value in chosen), f"seed{seed}"])
        )
        directory = single if single and len(combinations) == 1 else folder / name
        name = job_name(directory.name)
        if name in made:
            raise ValueError(f"two of the jobs would be named {name}; launch them one by one, each with a --logdir.")
        varying = [part for option, value in chosen for part in (f"--{option}", value)]
        arguments = (task, *options, *varying, "--seed", str(seed), "--logdir", str(directory))
        made[name] = Job(name=name, arguments=arguments, config=parse(arguments))
    return list(made.values())


def _values(setting: str) -> Iterator[tuple[str, str]]:
    option, equals, values = setting.partition("=")
    if not (equals and re.fullmatch(r"[a-z][a-z0-9._-]*", option) and all(values.split(","))):
        raise ValueError(
            f"--vary {setting!r} is not of the form OPTION=VALUE,VALUE, e.g. --vary learner.train-ratio=32,128"
        )
    yield from ((option, value) for value in dict.fromkeys(values.split(",")))
