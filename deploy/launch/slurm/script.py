"""The batch script of one or several jobs. Torch-free."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from deploy.launch.job import Job
from deploy.launch.slurm.config import SlurmConfig
from deploy.wiring.config import RunConfig

MOST = 1000  # the largest index of an array, unless the site has raised MaxArraySize
CHECKING = 30  # seconds
_FIRST = "# The same script again continues its runs. Each starts a Ray cluster of its own in its allocation."


def render(jobs: Sequence[Job], config: SlurmConfig, directory: str) -> str:
    """One script for all jobs, which are an array if there are several; they run in `directory`.

    ValueError: what is asked for does not fit together, bash does not understand the setup lines, or a path cannot
    stand in the script.
    """
    _require_bash(config.setup)
    if not config.cpus_per_task and any(job.config.actor.autoscale.on for job in jobs):
        raise ValueError(
            "The autoscaler adds actors only where Slurm has given the job CPUs for them: give --slurm.cpus-per-task, "
            "with one for each of the most actors, one for the learner and one for the evaluator."
        )
    indexes = array_indexes(jobs)
    at_once = f"%{config.at_once}" if config.at_once else ""
    options = {
        "job-name": os.path.commonprefix([job.name for job in jobs]).rstrip("-") or "nexus",
        "array": _ranges(indexes) + at_once if len(jobs) > 1 else "",
        "chdir": directory,
        "output": f"{folder_of(jobs).replace('%', '%%')}/{'%A_%a' if len(jobs) > 1 else '%j'}.log",
        "open-mode": "append",
        "requeue": None,
        "signal": f"B:USR1@{config.signal_seconds}",
        "nodes": str(config.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(config.cpus_per_task or max(cpus_of(job.config, config.nodes) for job in jobs)),
        **config.options(),
    }
    lines = ["#!/bin/bash", _FIRST]
    lines += [_directive(name, value) for name, value in options.items() if value != ""]
    lines += [_directive(*_split(option)) for option in config.sbatch]
    lines += ["", *config.setup]
    if len(jobs) == 1:
        lines.append(f"run={_array(jobs[0])}")
    else:
        lines.append('case "$SLURM_ARRAY_TASK_ID" in')
        lines += [f"{index}) run={_array(job)} ;;" for index, job in zip(indexes, jobs, strict=True)]
        lines.append("esac")
    program = [sys.executable, "-P", "-m", "deploy.launch.slurm.allocation", str(config.signal_seconds)]
    lines += [f'exec {shlex.join(program)} "${{run[@]}}"', ""]
    return "\n".join(lines)


def folder_of(jobs: Sequence[Job]) -> str:
    """Where the script and the output of jobs are: `slurm` in the run directory, or beside those of a sweep."""
    folder = f"{os.path.commonpath([job.config.logdir for job in jobs])}/slurm"
    if "\\" in folder:  # sbatch takes no pattern with one
        raise ValueError(
            f"--logdir {folder.removesuffix('/slurm')!r} has a backslash, with which Slurm writes no logs."
        )
    return folder


def array_indexes(jobs: Sequence[Job]) -> list[int]:
    """The seeds, if nothing else differs; otherwise the jobs' places."""
    seeds = [job.config.seed for job in jobs]
    if len({job.config.task for job in jobs}) == 1 and len(set(seeds)) == len(seeds) and max(seeds) <= MOST:
        return seeds
    return list(range(len(jobs)))


def cpus_of(config: RunConfig, nodes: int) -> int:
    """The fewest CPUs on each of `nodes` nodes with which there is room for the run."""
    first = 1 + bool(config.evaluation.every)  # learner and evaluator
    actors, each = 0 if config.offline else config.actor.actors, config.cluster.actor_cpus
    cpus = first
    while int((cpus - first) / each + 1e-9) + (nodes - 1) * int(cpus / each + 1e-9) < actors:
        cpus += 1
    return cpus


def _ranges(indexes: Sequence[int]) -> str:
    """0-2 for 0, 1, 2; otherwise each."""
    whole = list(indexes) == list(range(indexes[0], indexes[0] + len(indexes)))
    return f"{indexes[0]}-{indexes[-1]}" if whole else ",".join(map(str, indexes))


def _split(option: str) -> tuple[str, str | None]:
    name, equals, value = option.partition("=")
    return name, value if equals else None


def _directive(name: str, value: str | None) -> str:
    if value is None:
        return f"#SBATCH --{name}"
    if "\n" in value:
        raise ValueError(f"{value!r} has a line break, with which it cannot be given to Slurm.")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    plain = value == escaped and not set(value) & set(" \t'#")
    return f"#SBATCH --{name}={value}" if plain else f'#SBATCH --{name}="{escaped}"'


def _array(job: Job) -> str:
    return f"({shlex.join(job.arguments)})"


def _require_bash(setup: Sequence[str]) -> None:
    """ValueError: these lines are not bash, which Slurm would notice only when the job begins."""
    if not (setup and (bash := shutil.which("bash"))):
        return
    done = subprocess.run([bash, "-n"], input="\n".join(setup), capture_output=True, text=True, timeout=CHECKING)
    if done.returncode:
        said = done.stderr.strip().splitlines()[0].removeprefix(f"{bash}: ")
        raise ValueError(f"bash cannot parse slurm.setup: {said}")
