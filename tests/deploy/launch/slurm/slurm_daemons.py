"""A real Slurm on this machine: munged, slurmctld and two slurmd, with folders, ports and a key of their own."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.replay.redis.redis_servers import free_port

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "sinfo")
NODES = ("n0", "n1")
CPUS = 8  # of each node, whatever this machine has
STARTING = 30.0  # seconds
ENDING = 20.0  # seconds
SAVING = 60.0  # seconds for the jobs; Slurm kills them after 30


def missing() -> str:
    """Names the programs that are not on this machine; empty if all are."""
    return ", ".join(name for name in PROGRAMS if not shutil.which(name, path=PATH))


class SlurmDaemons:
    """Two nodes, n0 and n1, on this machine. Jobs end with the context, and so do the daemons."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: munge's socket lies in it
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with which commands reach it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, *command: str) -> str:
        """What a command of Slurm says."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment, "PATH": PATH}, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _begin(self) -> None:
        private = self.folder / "private"
        for folder in (private, self.folder / "state", *(self.folder / node for node in NODES)):
            folder.mkdir(mode=0o700)
        (private / "key").touch(0o600)
        (private / "key").write_bytes(secrets.token_bytes(128))
        ports = {name: free_port() for name in ("slurmctld", *NODES)}
        user, host = getpass.getuser(), socket.gethostname().partition(".")[0]
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]} CPUs={CPUS} State=UNKNOWN"
            for node in NODES
        ]
        settings = [
            "ClusterName=test", f"SlurmctldHost={host}(127.0.0.1)", f"SlurmUser={user}", f"SlurmdUser={user}",
            f"SlurmctldPort={ports['slurmctld']}", "AuthType=auth/munge", "CryptoType=crypto/munge",
            f"AuthInfo=socket={self.folder}/munge,cred_expire=5",  # after which a requeued job may start
            f"StateSaveLocation={self.folder}/state", f"SlurmdSpoolDir={self.folder}/%n",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid", f"SlurmdPidFile={self.folder}/%n.pid",
            f"SlurmctldLogFile={self.folder}/slurmctld.log", f"SlurmdLogFile={self.folder}/%n.log",
            "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU", "SlurmdParameters=config_overrides", "JobRequeue=1", "ReturnToService=2",
            "SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=2", "KillWait=30",
            "JobAcctGatherType=jobacct_gather/none", "AccountingStorageType=accounting_storage/none",
            "MpiDefault=none", "MailProg=/bin/true", *nodes,
            f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP",
        ]  # fmt: skip
        (self.folder / "slurm.conf").write_text("\n".join([*settings, ""]))
        self._start(
            "munged", "--foreground", "--force", f"--socket={self.folder}/munge", f"--key-file={private}/key",
            f"--pid-file={private}/pid", f"--log-file={private}/log", f"--seed-file={private}/seed",
        )  # fmt: skip
        self._await(lambda: (self.folder / "munge").exists(), "munged")
        self._start("slurmctld", "-D")
        for node in NODES:
            self._start("slurmd", "-D", "-N", node)
        self._await(lambda: self._ask_quietly("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2", "Slurm")

    def _ask_quietly(self, *command: str) -> str:
        try:
            return self.ask(*command)
        except AssertionError:
            return ""

    def _start(self, program: str, *arguments: str) -> None:
        log = self.folder / f"{program}-{len(self._daemons)}.out"
        with log.open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    [program, *arguments], env={**os.environ, **self.environment, "PATH": PATH},
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                )
            )  # fmt: skip

    def _await(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STARTING
        while not ready():
            if time.monotonic() > deadline:
                logs = [*self.folder.glob("*.out"), *self.folder.glob("*.log"), *self.folder.glob("private/log")]
                said = "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)
                raise AssertionError(f"{what} has not started:\n{said}")
            time.sleep(0.2)

    def _members(self) -> Iterator[psutil.Process]:
        """The processes of jobs that have not ended."""
        own = [os.getpid(), *(daemon.pid for daemon in self._daemons)]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid not in own and process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    yield process

    def _end(self) -> None:
        if len(self._daemons) > 1:
            self._ask_quietly("scancel", f"--user={getpass.getuser()}")
            deadline = time.monotonic() + SAVING
            while self._ask_quietly("squeue", "-h").strip() and time.monotonic() < deadline:
                time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for process in self._members():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for daemon in self._daemons:
            try:
                daemon.wait(ENDING)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
