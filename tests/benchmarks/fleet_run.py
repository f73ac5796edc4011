"""A local run of `nexus train` that the fleet's benchmarks start, scale by `nexus scale`, and end by `nexus stop`."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from deploy.stored.run_status import read_status
from tests.integration.runs import NEXUS, command, environment

STARTING = 400  # seconds for a run to start, or for the workers that a change starts or ends
ENDING = 240  # seconds to save and end
MARK = "NEXUS_FLEET_RUN"  # in the environment of everything that belongs to a run
ROLES = {
    "actors": r"ray::actor-", "coordinator": r"ray::coordinator", "shards": r"ray::shard-",
    "learner": r"deploy\.distributed\.learner_process", "supervisor": r"deploy\.cli",
    "raylet": r"/raylet", "gcs": r"/gcs_server",
}  # fmt: skip


class FleetRunError(Exception):
    """The run did not do what it should."""


class Cores(NamedTuple):
    """Seconds of CPU used so far."""

    own: dict[int, tuple[str, float]]
    """Of each process of a run: its role, and what it has used."""
    machine: float
    """All that the machine has used."""


class LiveRun:
    """One run in a folder of its own; as a context manager nothing of it is left behind."""

    def __init__(self, folder: Path, task: str, *options: str, variables: Mapping[str, str] | None = None) -> None:
        """`options` of `nexus train`; `variables` of the environment of all its processes."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.logdir = folder, folder / "run"
        given = environment() | dict(variables or {}) | {MARK: str(folder)}
        arguments = command(task, self.logdir, "--mode", "local", "--frames", "1000000000", *options)
        with (folder / "output.log").open("a") as log:
            self.process = subprocess.Popen(
                arguments, cwd=folder, env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> "LiveRun":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(ENDING)
        for process in self.members():
            with suppress(psutil.Error):
                process.kill()
        self.process.wait(10)

    def output(self) -> str:
        """The end of what it has printed."""
        return (self.folder / "output.log").read_text(errors="replace")[-2000:]

    def status(self) -> dict[str, Any]:
        """Its status. FleetRunError: it has ended."""
        if (code := self.process.poll()) is not None:
            raise FleetRunError(f"The run has ended with code {code}:\n{self.output()}")
        return read_status(self.logdir)

    def wait(self, condition: Callable[[dict[str, Any]], Any], what: str, timeout: float = STARTING) -> dict[str, Any]:
        """The first status that fulfils `condition`."""
        deadline = time.monotonic() + timeout
        while not condition(status := self.status()):
            if time.monotonic() > deadline:
                raise FleetRunError(f"Waited {timeout:g} s for {what}; the run prints\n{self.output()}")
            time.sleep(0.1)
        return status

    def fresh(self) -> dict[str, Any]:
        """A status that is written after this call."""
        now = time.time()
        return self.wait(lambda status: status.get("time", 0.0) > now and "steps" in status, "a fresh status", 60)

    def scale(self, actors: int) -> None:
        """`nexus scale`, which returns once the workers have started or ended."""
        self._nexus("scale", str(self.logdir), "--actors", str(actors), "--timeout", str(STARTING))

    def stop(self) -> None:
        """`nexus stop`, which returns once the run has saved and ended."""
        self._nexus("stop", str(self.logdir), "--timeout", str(ENDING))
        self.process.wait(60)

    def _nexus(self, *words: str) -> None:
        done = subprocess.run(
            [*NEXUS, *words], cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=STARTING + 120,
        )  # fmt: skip
        print(f"nexus {words[0]}: {done.stdout.strip()}", file=sys.stderr, flush=True)
        if done.returncode:
            raise FleetRunError(f"nexus {' '.join(words)} ends with {done.returncode}:\n{done.stdout}{done.stderr}")

    def members(self) -> list[psutil.Process]:
        """Its processes, Ray's own included."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.folder):
                    found.append(process)
        return found

    def cores(self) -> Cores:
        """What its processes have used so far."""
        own = {}
        for process in self.members():
            with suppress(psutil.Error):
                words, times = " ".join(process.cmdline()), process.cpu_times()
                role = next((role for role, name in ROLES.items() if re.search(name, words)), "rest of Ray")
                own[process.pid] = role, times.user + times.system
        whole = psutil.cpu_times()
        idle = whole.idle + getattr(whole, "iowait", 0.0) + getattr(whole, "guest", 0.0)
        return Cores(own, sum(whole) - idle)


def cores_used(before: Cores, after: Cores, seconds: float) -> dict[str, float]:
    """Cores that each role used between two looks, and the `others` of the machine, processes that have ended since
    among them."""
    used: dict[str, float] = {}
    for process, (role, later) in after.own.items():
        used[role] = used.get(role, 0.0) + (later - before.own.get(process, (role, 0.0))[1]) / seconds
    used["others"] = (after.machine - before.machine) / seconds - sum(used.values())
    return {role: round(cores, 3) for role, cores in sorted(used.items())}


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    import platform

    import ray
    import torch

    return {
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores", "load": os.getloadavg(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "ray": ray.__version__},
    }  # fmt: skip
