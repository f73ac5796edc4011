"""One run of `nexus train` in one mode on one store, killed time and again and continued by the same command."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from learner.checkpoint import Checkpoints
from tests.benchmarks.run_soak_audit import SoakError, lines, read_everything, require_forward
from tests.benchmarks.run_soak_witness import Sampled, accounts, hook
from tests.benchmarks.run_soak_world import TASK
from tests.replay.redis.redis_servers import RedisServer

MARK = "RUN_SOAK"  # in the environment of everything that belongs to a run
STARTS = 300.0  # seconds until a run works, or works again
ENDS = 240.0  # seconds until it has saved and ended
GONE = 60.0  # seconds after the end until nothing of it is left
EARLY = 0.3  # of the times that the driver's next life is ended while it starts
BOOTED = 3.0  # seconds until the interpreter has started and Ctrl-C is the program's
STOPPED = 200.0  # seconds of SIGSTOP, more than what counts as hung
COMMAND = [
    sys.executable, "-m", "deploy.cli", "train", TASK, "--preset", "quick", "--frames", "1000000000",
    "--checkpoint-every", "50", "--log-every", "5", "--evaluation.every", "60", "--evaluation.episodes", "4",
    "--report-every", "0",
]  # fmt: skip


class Fault(NamedTuple):
    """What is done to which role."""

    role: str
    how: str
    """`killed`, `stopped`, `Ctrl-C` or `Ctrl-C twice`."""

    def __str__(self) -> str:
        return f"{self.role} {self.how}"


@dataclass
class Record:
    """All faults of one kind; the longest times until the run worked again and until nothing was left of it."""

    times: int = 0
    recovery: float = 0.0
    gone: float = 0.0


def roles(pair: str) -> list[str]:
    """The processes that a run of this mode and store (`inline/memory`, say) consists of."""
    mode, store = pair.split("/")
    own = ["driver"] if mode == "inline" else ["driver", "learner", "actor", "coordinator", "evaluator"]
    return own + (["server"] if store == "redis" else ["shard"] if mode == "local" else [])


class RunSite:
    """Runs until its faults are done or `stop` is set; `failed` says why it ended before."""

    def __init__(self, pair: str, faults: list[Fault], seed: int) -> None:
        self.pair, self.faults, self.rng = pair, faults, np.random.default_rng(seed)
        self.folder = Path(tempfile.mkdtemp(prefix=f"run-soak-{pair.replace('/', '-')}-"))
        self.logdir = self.folder / "run"
        self.stop = threading.Event()
        self.failed, self.doing = "", "waiting"
        self.records: dict[str, Record] = {}
        self.lives = self.audited = self.abandoned = self.restarts = 0
        self.sampled = Sampled(0, 0, [])
        self._steps = 0
        self._servers: list[RedisServer] = []
        self._shared_memory = _shared_memory()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def updates(self) -> int:
        """Of the last line of metrics."""
        return self._last_line().get("updates", 0)

    def run(self) -> None:
        """One fault after the other; then Ctrl-C, and everything is looked at once more."""
        try:
            self._begin()
            for fault in self.faults:
                if self.stop.is_set():
                    break
                self.doing = str(fault)
                self._settle(fault)
            self.doing = "the last Ctrl-C"
            self._works(self.updates)
            self._interrupt(1)
            self._ended()
            self._inspect()
        except BaseException as error:
            self.failed = (
                f"{self.pair}, {self.doing}: {type(error).__name__}: {error}\n{self.folder} is kept; its output ends\n"
                f"{self.output()[-3000:]}"
            )
        finally:
            self._end()
            self.doing = "done"

    def output(self) -> str:
        """What the command has printed in all its lives."""
        path = self.folder / "output.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _begin(self) -> None:
        self.doing = "the first start"
        if self.pair.endswith("redis"):
            for _ in range(2):
                server = RedisServer(tcp=True, appendonly=True)
                self._servers.append(server)
                server.start()
        self._start()
        self._works(0)

    def _end(self) -> None:
        for process in self._members():
            with suppress(psutil.Error):
                process.kill()
        if self._process:
            self._process.wait(10)
        for server in self._servers:
            server.stop()
        if not self.failed:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        """The same command, whatever became of its last life."""
        mode, store = self.pair.split("/")
        place = ",".join(server.url_tcp for server in self._servers) or store
        command = [*COMMAND, "--mode", mode, "--logdir", str(self.logdir), "--replay", place]
        variables = {MARK: str(self.folder), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with (self.folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=os.environ | variables | hook(self.folder / "witness"), start_new_session=True,
            )  # fmt: skip
        self.lives += 1

    def _settle(self, fault: Fault) -> None:
        """Wait for a moment drawn by chance, do it, and see that the run goes on as it should."""
        time.sleep(float(self.rng.uniform(0, 12)))
        record = self.records.setdefault(str(fault), Record())
        if fault.role == "driver":
            self._end_the_run(fault, record)
            if self.rng.random() < EARLY:
                self._start()
                time.sleep(float(self.rng.uniform(0 if fault.how == "killed" else BOOTED, 12)))
                self._end_the_run(fault, record)
                record.times += 1
            begun = time.monotonic()
            self._start()
            self._works(self._saved())
        elif fault.role == "server":
            self._strike_server(fault)
            begun = time.monotonic()
            self._works(self.updates)
        else:
            begun = self._strike(fault)
        record.times += 1
        record.recovery = max(record.recovery, time.monotonic() - begun)
        self._look()

    # What is done

    def _end_the_run(self, fault: Fault, record: Record) -> None:
        assert self._process
        begun = time.monotonic()
        if fault.how == "killed":
            self._process.kill()
        else:
            self._interrupt(1 + fault.how.endswith("twice"))
        self._ended()
        record.gone = max(record.gone, time.monotonic() - begun)

    def _interrupt(self, times: int) -> None:
        assert self._process
        for k in range(times):
            if k:
                time.sleep(float(self.rng.uniform(0.05, 0.5)))
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def _strike_server(self, fault: Fault) -> None:
        server = self._servers[int(self.rng.integers(len(self._servers)))]
        if fault.how == "stopped":
            server.pause()
            self._sleep(STOPPED)
            server.resume()
            return
        server.kill()
        time.sleep(float(self.rng.uniform(0, 20)))
        server.restart()

    def _strike(self, fault: Fault) -> float:
        """Kill or stop one process of this role and wait for its successor; when the run could go on again."""
        victim = self._wait(lambda: self._find(fault.role), f"a {fault.role} to {fault.how}", STARTS)
        counted, updates = self._counted(), self.updates
        begun = time.monotonic()
        if fault.how == "stopped":
            victim.suspend()
            self._sleep(STOPPED)
            with suppress(psutil.Error):  # a hung process is killed and replaced meanwhile
                victim.resume()
        else:
            victim.kill()
        back = self._wait(
            lambda: next((p for p in self._all(fault.role) if p.pid != victim.pid), None)
            if not victim.is_running() or len(self._all(fault.role)) > 1
            else None,
            f"another {fault.role} for process {victim.pid}", STARTS,
        )  # fmt: skip
        assert back
        self._works(max(updates, self.updates))
        self._wait(
            lambda: self._counted() > counted, f"the restart of the {fault.role} to be counted (now {counted})", STARTS
        )
        self.restarts += 1
        return begun

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._alive()
            time.sleep(1.0)

    # What it must do

    def _works(self, beyond: int) -> None:
        """It makes updates beyond this one from now on, and every process of it is there."""
        now = time.time()

        def newer() -> bool:
            line = self._last_line()
            return bool(line) and line["updates"] > beyond and line["time"] > now

        self._wait(newer, f"an update beyond {beyond}", STARTS)
        for role in roles(self.pair):
            if role not in ("driver", "server"):
                self._wait(lambda role=role: self._find(role), f"the {role}", STARTS)

    def _alive(self) -> None:
        assert self._process
        if (code := self._process.poll()) is not None:
            raise SoakError(f"the run ended by itself with code {code}")
        if "Traceback" in self.output():
            raise SoakError("a traceback was printed")

    def _ended(self) -> None:
        """It ends, nothing of it is left, and what it leaves behind is whole."""
        assert self._process
        try:
            code = self._process.wait(ENDS)
        except subprocess.TimeoutExpired:
            raise SoakError(f"it has not ended {ENDS:g} s after it was told to") from None
        if code not in (-signal.SIGKILL, 130):
            raise SoakError(f"it ended with code {code}; it should be 130 after Ctrl-C")
        deadline = time.monotonic() + GONE
        while left := self._left():
            if time.monotonic() > deadline:
                raise SoakError(f"left behind {GONE:g} s after the end: {left}")
            time.sleep(0.2)
        self._look()
        self._audit()

    def _left(self) -> list[str]:
        """Processes (and with them what they listen on) and shared memory that the run has left behind."""
        alive = []
        for process in self._members():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(f"process {process.pid}: {' '.join(process.cmdline()).strip()[:80]}")
        return alive + [f"/dev/shm/{name}" for name in sorted(_shared_memory() - self._shared_memory) if _mine(name)]

    def _look(self) -> None:
        """Curves go forwards, and no sequence that was sampled is torn."""
        require_forward(self.logdir)
        self.sampled = accounts(self.folder / "witness")
        if self.sampled.torn:
            raise SoakError(f"{self.sampled.torn} torn sequences were sampled: {self.sampled.told}")
        if "Traceback" in self.output():
            raise SoakError("a traceback was printed")

    def _audit(self) -> None:
        """Every stored step fits its neighbours."""
        if not self._stored():
            return
        steps, abandoned = read_everything(self.logdir)
        if steps < self._steps / 2:
            raise SoakError(f"{steps} steps are stored; at the end of the life before it were {self._steps}")
        self._steps, self.abandoned = steps, abandoned
        self.audited += steps

    def _stored(self) -> bool:
        """Whether there must be something to read: memory is kept by checkpoints alone."""
        return not self.pair.endswith("memory") or bool(self._saved())

    def _saved(self) -> int:
        """Updates of the newest checkpoint."""
        return max(Checkpoints(self.logdir / "checkpoints").numbers(), default=0)

    def _inspect(self) -> None:
        command = [sys.executable, "-m", "deploy.cli", "replay", "inspect", str(self.logdir)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SoakError(f"replay inspect ends with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _counted(self) -> int:
        """Restarts that the run itself has counted."""
        return int(sum(value for key, value in self._last_line().items() if key.startswith("restarts/")))

    def _last_line(self) -> dict[str, int]:
        return next(reversed(lines(self.logdir / "metrics.jsonl", 1 << 16)), {})

    # Processes

    def _wait(self, condition: Callable, what: str, timeout: float):  # noqa: ANN202
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            self._alive()
            if time.monotonic() > deadline:
                raise SoakError(f"waited {timeout:g} s for {what}")
            time.sleep(0.1)
        return value

    def _members(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.folder):
                    found.append(process)
        return found

    def _all(self, role: str) -> list[psutil.Process]:
        pattern = "deploy.distributed.learner_process" if role == "learner" else rf"ray::{role}\b"
        found = []
        for process in self._members():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and re.search(pattern, " ".join(process.cmdline())):
                    found.append(process)
        return found

    def _find(self, role: str) -> psutil.Process | None:
        found = self._all(role)
        return found[int(self.rng.integers(len(found)))] if found else None


def _shared_memory() -> set[str]:
    """Files alone: folders there are other programs' use of a fast file system."""
    return {entry.name for entry in os.scandir("/dev/shm") if entry.is_file()}


def _mine(name: str) -> bool:
    """Shared memory that no living process has open any more: other runs on this machine have some of their own."""
    target = f"/dev/shm/{name}"
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if any(mapped.path.startswith(target) for mapped in process.memory_maps()):
                return False
    return True
