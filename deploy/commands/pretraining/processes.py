"""Starts a command in several processes of this machine, as torchrun does. Torch-free."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from deploy.exit_codes import FAILED
from replay.errors import NexusError

SUPERVISOR = "NEXUS_SUPERVISOR"
"""Environment variable: the process that started this one."""
_GRACE = 10.0  # seconds for the others to end when one has


def supervise(arguments: Sequence[str], count: int, logdir: Path) -> int:
    """Run `nexus ARGUMENTS` in `count` processes, the first of which has the terminal; returns its exit code.

    Signals go to the first process, which asks the others to stop. NexusError: another process failed.
    """
    logdir.mkdir(parents=True, exist_ok=True)
    processes: list[subprocess.Popen] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if processes and processes[0].poll() is None:
            processes[0].send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        port = _free_port()
        for rank in range(count):
            processes.append(_start(arguments, rank, count, port, logdir))
        return _wait(processes, logdir)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_supervisor() -> None:
    """Ask this process to save and end when the one that started it is gone."""
    supervisor = int(os.environ.get(SUPERVISOR, 0))
    if supervisor:
        threading.Thread(target=_watch, args=(supervisor,), name="supervisor", daemon=True).start()


def log_of(rank: int, logdir: Path) -> Path:
    """The output of a process other than the first."""
    return logdir / f"process-{rank}.log"


def _start(arguments: Sequence[str], rank: int, count: int, port: int, logdir: Path) -> subprocess.Popen:
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | {key: str(value) for key, value in (group | {SUPERVISOR: os.getpid()}).items()}
    command = [sys.executable, "-m", "deploy.cli", *arguments]
    if not rank:
        return subprocess.Popen(command, env=environment, start_new_session=True)
    with log_of(rank, logdir).open("wb") as log:
        return subprocess.Popen(
            command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _wait(processes: Sequence[subprocess.Popen], logdir: Path) -> int:
    """The exit code of the first process, which ends last or fails with the others."""
    while (code := processes[0].poll()) is None:
        failed = [rank for rank, process in enumerate(processes) if process.poll()]
        if failed:
            try:
                return processes[0].wait(_GRACE) or FAILED
            except subprocess.TimeoutExpired:
                pass
            log = log_of(failed[0], logdir)
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise NexusError(f"Process {failed[0]} failed: {''.join(last)} Its output is in {log}.")
        time.sleep(0.1)
    return code if code >= 0 else FAILED


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
