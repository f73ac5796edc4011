"""Asking a run in progress, and waiting for what it was asked, with progress on standard error."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.launch import records
from deploy.launch.target import Launched
from deploy.stored.control import RunDirectory

if TYPE_CHECKING:
    from deploy.distributed.cluster.remote_control import ClusterRun

LINE = 5.0  # seconds between lines of progress
POLL = 0.2


def launched(run: Path, address: str = "") -> Launched | None:
    """The launched job that `run` names, unless it is a directory; with the `address` of a job server, one of there."""
    if address.startswith(("http://", "https://")):
        return job_at(address, str(run))
    return None if address or run.exists() else records.find(str(run))


def job_at(address: str, name: str) -> Launched:
    """The job of a Ray cluster, by its job server at `http://HOST:PORT`. ValueError: there is none."""
    from deploy.launch.ray_jobs.jobs import RayJobs

    return RayJobs.of(address).find(name)


def directory_of(run: Path) -> Path:
    """The directory of a run that is named by it or, if it was launched, by its name."""
    return Path(job.logdir) if (job := launched(run)) else run


def reach(run: Path, address: str) -> "RunDirectory | ClusterRun":
    """The run in a directory, that of a launched job, or the one in the Ray cluster at an address."""
    if job := launched(run, address):
        if not Path(job.logdir).is_dir():
            raise ValueError(
                f"{job.logdir}, the run directory of {job.name}, is not visible on this machine. Give the command "
                f"where it is: {job.target} at {job.place or 'its default place'}."
            )
        return RunDirectory(Path(job.logdir))
    if not address:
        if not run.exists():
            raise ValueError(f"{run} is neither a run directory nor a launched run; nexus jobs lists those.")
        return RunDirectory(run)
    from deploy.distributed.cluster.remote_control import ClusterRun

    return ClusterRun(address, str(run))


class Progress:
    """Prints what is being waited for, once every few seconds."""

    def __init__(self, what: str):
        self._what, self._next = what, LINE

    def __call__(self, waited: float) -> None:
        if waited >= self._next:
            self._next = waited + LINE
            print(f"waiting for {self._what}, {waited:.0f} s", file=sys.stderr, flush=True)


def wait_until(
    done: Callable[[], str], run: "RunDirectory | ClusterRun", what: Callable[[], str], timeout: float
) -> str:
    """Wait until `done` returns a text, which is returned; empty if that takes longer than `timeout` seconds or the run
    ends before."""
    begun, told = time.monotonic(), LINE
    while True:
        if text := done():
            return text
        waited = time.monotonic() - begun
        if waited > timeout or not run.active():
            return done()
        if waited >= told:
            told = waited + LINE
            print(f"{what()}, {waited:.0f} s", file=sys.stderr, flush=True)
        time.sleep(POLL)
