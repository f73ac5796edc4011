"""`nexus launch`."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from tyro.conf import arg

from deploy.commands.launching.following import follow
from deploy.commands.numbers import NotNegative
from deploy.commands.parsing import OptionalPath, option_names, parse_known
from deploy.commands.train import Train, parse_train
from deploy.launch import records
from deploy.launch.compose.config import ComposeConfig
from deploy.launch.job import Job
from deploy.launch.kuberay.config import KubeRayConfig
from deploy.launch.ray_jobs.config import RayJobsConfig, address_of
from deploy.launch.slurm.config import SlurmConfig
from deploy.launch.sweep import jobs
from deploy.launch.target import Launched, Target
from deploy.launch.targets import target_class, target_of
from deploy.run_failed import RunFailedError
from deploy.wiring.output_path import require_writable_folder
from deploy.wiring.redis_password import PASSWORD_FILE, VARIABLE

EXAMPLE = "nexus launch gym:CartPole-v1 --preset quick --address http://head:8265"
_OTHERWISE = {
    "--seed": "--seeds N [N ...] gives the seeds",
    "--mode": "a launched run is always one of --mode cluster",
    "--logdir": "--logdir gives the folder of all runs",
    "--dry-run-device": "nexus train TASK --dry-run tells what a run needs",
    "--cluster.address": "a job finds the cluster that it is in",
}
"""Options of nexus train that have no place here."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Start runs elsewhere: nexus launch TASK [TASK ...] [options of this command and of nexus train].

    The same command continues runs that have ended or were lost. Several tasks, --seeds and --vary make a sweep: one
    job for each combination, placed as the target has room. One job's output is followed; Ctrl-C ends that, not the
    job.
    """

    target: Literal["ray", "slurm", "kuberay", "compose"] = "ray"
    """Where: on a Ray cluster, through its job server; in Slurm, where each job starts a Ray cluster of its own; on
    Kubernetes, by KubeRay; in containers on this machine."""
    address: Annotated[str, arg(help_behavior_hint="(default: RAY_API_SERVER_ADDRESS)", metavar="http://HOST:PORT")] = (
        ""
    )
    """Of the Ray cluster's job server, its dashboard."""
    seeds: tuple[NotNegative, ...] = (0,)
    """One run for each."""
    vary: Annotated[tuple[str, ...], arg(metavar="OPTION=VALUE,VALUE ...", help_behavior_hint="(optional)")] = ()
    """Options of nexus train, with the values that runs are to have."""
    logdir: Annotated[str, arg(help_behavior_hint="(default: runs/TASK-seedSEED)")] = ""
    """Run directory, as the machines of the target see it; of several runs, the folder of theirs."""
    detach: bool = False
    """Do not follow the output of a single job."""
    dry_run: bool = False
    """Print what would be submitted, and submit nothing."""
    out: OptionalPath = None
    """With --dry-run: a folder for it, a file each."""
    ray: RayJobsConfig = field(default_factory=RayJobsConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    kuberay: KubeRayConfig = field(default_factory=KubeRayConfig)
    compose: ComposeConfig = field(default_factory=ComposeConfig)


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    tasks = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    given, options = parse_known(
        Launch, arguments[len(tasks) :], prog="nexus launch", example=EXAMPLE, others=tuple(option_names(Train))
    )
    if not tasks:
        raise ValueError(f"nexus launch: TASK comes first, e.g. {EXAMPLE}")
    _require_ours(given, options)
    target = _target(given)
    single = PurePosixPath(Path(given.logdir).absolute()) if given.logdir else None
    folder = single or target.runs or PurePosixPath(Path("runs").absolute())
    made = jobs(tasks, given.seeds, given.vary, options, parse_train, folder, single)
    if given.dry_run:
        return _show(target.files(made), given.out)
    _require_free_names(made)
    records.require_writable()
    if os.environ.get(VARIABLE) and not os.environ.get(PASSWORD_FILE):
        print(
            f"The Redis password stays on this machine. The job finds it in its own environment: {VARIABLE}, or a file "
            f"there that {PASSWORD_FILE} names, which nexus launch passes on.", file=sys.stderr,
        )  # fmt: skip
    launched: list[Launched] = []
    for one in target.launch(made):  # it may be started only when the next one is asked for
        _tell(launched[-1:])
        try:
            records.write(one)
        except OSError as error:
            print(f"There is no record of {one.name}: {error.strerror}.", file=sys.stderr)
        launched.append(one)
    _tell(launched[-1:])
    if len(launched) == 1 and not given.detach:
        return follow(target, launched[0])
    print("nexus jobs shows how they are; nexus logs NAME, nexus stop NAME")
    return 0


def _tell(launched: Sequence[Launched]) -> None:
    for one in launched:
        print(f"launched {one.name} ({one.target} job {one.id}), run directory {one.logdir}", flush=True)


def _target(given: Launch) -> Target:
    """The target that the options describe. ValueError: something about it is missing or wrong."""
    place = [address_of(given.address)] if given.target == "ray" else []
    target: Target = target_class(given.target)(getattr(given, given.target), *place)
    return target


def _require_ours(given: Launch, options: Sequence[str]) -> None:
    names = [option.partition("=")[0] for option in options if option.startswith("--")]
    varied = [f"--{setting.partition('=')[0]}" for setting in given.vary]
    for name in (*names, *varied):
        if name in _OTHERWISE:
            raise ValueError(f"nexus launch: {_OTHERWISE[name]}; leave out {name}.")
    for name in varied:
        if (names + varied).count(name) > 1:
            raise ValueError(f"nexus launch: {name} is given twice; give all its values once, to --vary.")
    if given.out and not given.dry_run:
        raise ValueError("nexus launch: --out is for --dry-run; add it.")
    if given.out:
        require_writable_folder(given.out, "--out")


def _require_free_names(made: Sequence[Job]) -> None:
    for job in made:
        known, state = records.find(job.name), ""
        if known and known.logdir != job.config.logdir and not known.state:
            with suppress(RunFailedError):  # its system is away
                state, _ = target_of(known).state(known)
        if known and state in ("waiting", "running"):
            raise ValueError(
                f"nexus launch: {job.name} is the name of a run in {known.logdir}, which has not ended. Names are the "
                "last part of --logdir; choose another."
            )


def _show(files: Mapping[str, str], out: Path | None) -> int:
    for name, text in files.items():
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text)
            print(out / name)
        else:
            print(f"# {name}\n{text}")
    return 0
