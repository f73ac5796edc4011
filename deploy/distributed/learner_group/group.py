"""The processes of a learner, `learner.processes` of them on one machine, as the first one holds the others.

The others are children of the first, which alone talks to coordinator and supervisor and saves. It tells them what
comes next; everything else they do by themselves. Whichever dies, all end, and the supervisor starts the learner again
from its newest checkpoint.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile

import torch.distributed as dist

from deploy.exit_codes import FAILED
from deploy.wiring.config import RunConfig
from learner.dreamer_step import choose_device
from learner.processes import PATIENCE, Processes
from replay.errors import NexusError

WAIT, GO, SAVE, STOP = range(4)
"""What the first process tells the others: that it is there, to make an update, to give what a checkpoint needs of
them, to end."""
PROGRAM = ["-u", "-P", "-m", "deploy.distributed.learner_group.follower"]
GRACE = 5.0  # seconds for this process to end by itself when another one has
NOTICED = 2.0  # seconds until it is known that another one has ended
ENDING = 10.0  # seconds for the others to end when they are told to


class LearnerGroupError(NexusError):
    """Another process of the learner has ended."""


class LearnerGroup:
    """Starts the others; `meet` waits for them. A learner of one process is a group too, of which nothing is asked."""

    def __init__(self, config: RunConfig, logdir: Path, address: str, namespace: str, given: str):
        """`given`: the spaces of the task as JSON. ValueError: there are not as many GPUs as processes."""
        self.size, self.logdir = config.learner.processes, logdir
        self.processes = Processes()
        self.saving = threading.Lock()
        """Held while a checkpoint is written, which the end of another process does not cut off."""
        self._children: list[subprocess.Popen[bytes]] = []
        self.in_step = True
        """The others are where this process is; false while an update is made."""
        self._lost, self._told, self._ending = "", False, threading.Event()
        if self.size == 1:
            return
        choose_device(config.learner, Processes(0, self.size))
        use_loopback()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            self._store = dist.TCPStore(
                "127.0.0.1", port, self.size, True, timeout=PATIENCE, wait_for_workers=False,
                master_listen_fd=os.dup(listener.fileno()),
            )  # fmt: skip
        for rank in range(1, self.size):
            words = [str(logdir), address, namespace, str(os.getpid()), str(rank), str(port)]
            self._children.append(_start([sys.executable, *PROGRAM, *words], given, log_of(logdir, rank)))
        threading.Thread(target=self._watch, name="learner-group", daemon=True).start()

    def meet(self) -> None:
        """Wait for the others to come up. LearnerGroupError: one has ended, or not all are there within PATIENCE."""
        if self.size > 1:
            try:
                self.processes = Processes.meet(self._store, 0, self.size)
            except RuntimeError as error:
                raise LearnerGroupError(self.cause(error) or f"The learner's processes cannot meet: {error}") from error

    def tell(self, what: int) -> None:
        """Tell the others what comes next. LearnerGroupError: one of them has ended."""
        self.require()
        self.in_step = what != GO or self.size == 1
        self.processes.from_first(what)

    def stop(self) -> None:
        """Tell the others that this is the end."""
        with suppress(RuntimeError):  # one has ended before it was told to
            if self.in_step and not self._lost:
                self.tell(STOP)
                self._told = True

    def require(self) -> None:
        """LearnerGroupError if another process has ended."""
        if self._lost:
            raise LearnerGroupError(self._lost)

    def cause(self, error: Exception) -> str:
        """A sentence about another process that has ended or does not answer, if that may be why this one could not go
        on; else empty."""
        if isinstance(error, LearnerGroupError):
            return str(error)
        deadline = time.monotonic() + (NOTICED if self._children else 0.0)
        while not self._lost and time.monotonic() < deadline:
            time.sleep(0.1)
        if not self._lost and isinstance(error, RuntimeError) and "imed out" in str(error):
            return (
                f"The learner's {self.size} processes have waited {PATIENCE} for each other: one hangs. Their output "
                f"is in {log_of(self.logdir, 1).with_name('learner-*.log')}."
            )
        return self._lost

    def end(self) -> None:
        """Wait for the others if they have been told to end, and kill those that do not."""
        self._ending.set()
        deadline = time.monotonic() + (ENDING if self._told else 0.0)
        for child in self._children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _watch(self) -> None:
        while not self._ending.wait(0.2):
            for rank, child in enumerate(self._children, 1):
                if (code := child.poll()) is not None and not self._lost:
                    self._lost = self._sentence(rank, code)
            if self._lost:
                break
        if not self._lost or self._ending.wait(GRACE):
            return
        with self.saving:
            print(self._lost, flush=True)  # this process waits for the one that is gone, maybe forever
            os._exit(FAILED)

    def _sentence(self, rank: int, code: int) -> str:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return (
            f"Process {rank} of the learner's {self.size} has ended ({how}; its output is in "
            f"{log_of(self.logdir, rank)}). They share every batch, so all of them end."
        )


def log_of(logdir: Path, rank: int) -> Path:
    """The output of a process other than the first."""
    return logdir / f"learner-{rank}.log"


def use_loopback() -> None:
    """Have what is exchanged between the processes stay on this machine."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for library in ("GLOO", "NCCL"):
        if names:
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", names[0])


def threads_of(config: RunConfig) -> int:
    """CPU threads of each process of the learner."""
    return config.learner.threads or max(1, ((os.cpu_count() or 2) - 1) // config.learner.processes)


def meet_first(rank: int, size: int, port: int) -> Processes:
    """Meet the process that listens at `port`, and the others."""
    store = dist.TCPStore("127.0.0.1", port, size, False, timeout=timedelta(seconds=60))
    return Processes.meet(store, rank, size)


def end_with(first: int) -> None:
    """End this process when the first one, its parent, is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the first one, which tells the others what comes of it

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(0.2)
        print("The first process of the learner has ended; ending too.", flush=True)
        os._exit(FAILED)

    threading.Thread(target=watch, name="first", daemon=True).start()


def _start(command: list[str], given: str, log: Path) -> subprocess.Popen[bytes]:
    """In the session of this process: whoever kills that kills all of them."""
    with log.open("ab") as output, TemporaryFile() as file:
        file.write(given.encode())
        file.seek(0)
        return subprocess.Popen(command, stdin=file, stdout=output, stderr=subprocess.STDOUT)
