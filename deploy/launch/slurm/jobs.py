"""Jobs of Slurm: `nexus launch --target slurm`. Torch-free."""

import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Self

from deploy.launch import records
from deploy.launch.job import Job
from deploy.launch.lifecycle import await_end, over_before
from deploy.launch.slurm.config import SlurmConfig
from deploy.launch.slurm.ray_node import free_port
from deploy.launch.slurm.script import array_indexes, folder_of, render
from deploy.launch.target import OVER, Launched, State
from deploy.run_failed import RunFailedError
from deploy.stored.run_status import read_status
from deploy.wiring.output_path import require_writable_folder

ANSWERING = 60.0  # seconds for a command of Slurm
POLL = 2.0  # seconds between looks at a job
AWAY = 300.0  # seconds for which Slurm may not answer while a job's output is followed
SCRIPT = "job.sbatch"
SECRETS = ("NEXUS_REDIS_PASSWORD", "RAY_AUTH_TOKEN")
"""Variables that stay here: Slurm keeps those of a job in files of its own."""
_STATES: Mapping[str, State] = {
    **dict.fromkeys(("PENDING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"), "waiting"),
    **dict.fromkeys(("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"), "running"),
    "COMPLETED": "ended", "CANCELLED": "stopped",
}  # fmt: skip
"""All others are failures: TIMEOUT, NODE_FAIL, OUT_OF_MEMORY and so on."""
_INTERRUPTED = ("130:0", "0:15")  # exit code and signal of a job that was stopped, by its own program or at once


class SlurmJobs:
    """The Slurm that this machine submits to, as a target."""

    runs: PurePosixPath | None = None
    final = True

    def __init__(self, config: SlurmConfig):
        self.config = config

    @classmethod
    def of(cls, place: str) -> Self:
        """That of a job, by its `place`."""
        return cls(SlurmConfig())

    def files(self, jobs: Sequence[Job]) -> dict[str, str]:
        return {SCRIPT: render(jobs, self.config, str(Path.cwd()))}

    def launch(self, jobs: Sequence[Job]) -> Iterator[Launched]:
        script = self.files(jobs)[SCRIPT]
        self._require_none_active([job.config.logdir for job in jobs])
        folder = Path(folder_of(jobs))
        require_writable_folder(folder, "--logdir")
        folder.mkdir(parents=True, exist_ok=True)
        began = time.time()
        number, _, cluster = _ask("sbatch", "--parsable", script=script).strip().partition(";")
        for job, index in zip(jobs, array_indexes(jobs), strict=True):
            yield Launched(
                name=job.name, target="slurm", id=number if len(jobs) == 1 else f"{number}_{index}", place=cluster,
                task=job.config.task, logdir=job.config.logdir, time=began,
            )  # fmt: skip
        (folder / f"{number}.sbatch").write_text(script)
        print(_watching(os.path.commonpath([job.config.logdir for job in jobs])))

    def state(self, job: Launched) -> tuple[State, str]:
        try:
            seen = _ask("scontrol", "--oneliner", "show", "job", job.id)
        except _UnknownError:
            return _afterwards(job)
        except RunFailedError as error:
            return "unreachable", str(error)
        fields = dict(re.findall(r"(?:^| )(JobState|Reason|ExitCode)=(\S+)", seen.partition("\n")[0]))
        if "JobState" not in fields:  # a job of an array, "not found"
            return _afterwards(job)
        return _judge(fields["JobState"], fields.get("ExitCode", ""), fields.get("Reason", ""))

    def logs(self, job: Launched, follow: bool) -> Iterator[str]:
        begun, said, heard = 0, "", time.monotonic()
        while True:
            state, why = self.state(job)
            with suppress(FileNotFoundError), _log_of(job).open("rb") as file:  # absent until it first runs
                file.seek(begun)
                while piece := file.read(1 << 16):
                    begun += len(piece)
                    yield piece.decode(errors="replace")
            if state == "waiting" and why != said:
                yield f"{job.name} waits: {why}\n"
                said = why
            if not follow or state in OVER:
                return
            if state != "unreachable":
                heard = time.monotonic()
            elif time.monotonic() - heard > AWAY:
                raise RunFailedError(f"The output of {job.name} cannot be followed: {why}")
            time.sleep(POLL)

    def stop(self, job: Launched, timeout: float) -> str:
        if said := over_before(self, job):
            return said
        told = False

        def ask(state: State) -> None:
            nonlocal told
            if state == "waiting":  # also one that has just been requeued
                _ask("scancel", job.id)  # with --state=PENDING Slurm 22 takes a job's whole array
            elif state == "running" and not told:
                _ask("scancel", "--batch", "--signal=TERM", job.id)
                told = True

        await_end(self, job, timeout, POLL, ask)
        return f"{job.name} has ended" if told else f"{job.name} was taken out of the queue"

    def _require_none_active(self, logdirs: Sequence[str]) -> None:
        """ValueError: a job of an earlier launch still has one of the run directories."""
        for job in records.everything():
            if job.target == "slurm" and job.logdir in logdirs and self.state(job)[0] not in (*OVER, "unreachable"):
                raise ValueError(
                    f"{job.logdir} is that of the job {job.id}, which has not ended; nexus stop {job.name} ends it."
                )


class _UnknownError(RunFailedError):
    """Slurm does not know a job, or not any more."""


def _ask(*command: str, script: str = "") -> str:
    """What a command of Slurm says, with `script` as its input. RunFailedError if it is absent, fails or takes too
    long."""
    if not shutil.which(command[0]):
        raise RunFailedError(
            f"{command[0]} is not on this machine: give the command on a login node of the cluster. With --dry-run, "
            "nexus launch prints the script anywhere."
        )
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    try:
        done = subprocess.run(command, env=environment, input=script, capture_output=True, text=True, timeout=ANSWERING)
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"Slurm has not answered {command[0]} within {ANSWERING:g} s.") from None
    if done.returncode:
        said = " ".join(line.strip() for line in (done.stderr or done.stdout).splitlines())
        kind = _UnknownError if "Invalid job id" in said or "not found" in said else RunFailedError
        raise kind(f"Slurm refuses: {said or f'{command[0]} ended with code {done.returncode}'}")
    return done.stdout


def _log_of(job: Launched) -> Path:
    """Jobs of an array write beside their run directories."""
    logdir = Path(job.logdir)
    return (logdir.parent if "_" in job.id else logdir) / "slurm" / f"{job.id}.log"


def _judge(state: str, code: str, reason: str) -> tuple[State, str]:
    if state in _STATES:
        found = _STATES[state]
        return found, reason if found == "waiting" and reason != "None" else ""
    if code in _INTERRUPTED:
        return "stopped", ""
    return "failed", f"{state} (exit code {code})" if state == "FAILED" else state


def _afterwards(job: Launched) -> tuple[State, str]:
    """By Slurm's accounting, if the site has it, or else what the run itself has left."""
    with suppress(RunFailedError):
        if line := _ask(
            "sacct", "-X", "--noheader", "--parsable2", "--format=State,ExitCode", "--jobs", job.id
        ).strip():
            state, _, code = line.splitlines()[-1].partition("|")
            return _judge(state.split()[0], code, "")
    status = read_status(Path(job.logdir))
    if status.get("state") in ("ended", "failed"):
        return status["state"], str(status.get("reason", ""))
    return "gone", "Slurm does not know it any more"


def _watching(folder: str) -> str:
    """How to look at runs from the user's own machine. Others may be logged in on this one, hence the token."""
    port, token = free_port(), "~/.local/state/nexus/monitor-token"
    return (
        f"To watch, give here:\n  nexus monitor {shlex.quote(folder)} --port {port} --token-file {token}\n"
        f"and on your own machine, then open http://127.0.0.1:6060/ there:\n"
        f"  ssh -N -L 6060:127.0.0.1:{port} {getpass.getuser()}@{socket.getfqdn()}"
    )
