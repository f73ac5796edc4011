"""What the batch script runs: a Ray cluster inside the allocation, and `nexus train` in it. Torch-free.

`python -m deploy.launch.slurm.allocation GRACE ARGUMENTS`, those of `nexus train`. SIGUSR1, which Slurm sends GRACE
seconds before it takes the nodes away, has the run save and the job requeued; SIGTERM has it save and end.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from deploy.commands.train import parse_train
from deploy.distributed.cluster.probe import look_at
from deploy.distributed.ray_cluster import object_store_bytes
from deploy.exit_codes import FAILED, INTERRUPTED
from deploy.launch.slurm.ray_node import RayNode
from deploy.run_failed import RunFailedError

JOINING = 300.0  # seconds for the other nodes
REQUEUE = 15.0  # seconds before the end of GRACE at which the job is requeued, saved or not
ASKING = 60.0  # seconds for Slurm to answer


class Allocation:
    """A job of Slurm, from inside."""

    def __init__(self, grace: float, environment: Mapping[str, str]):
        self.grace = grace
        self.job = environment["SLURM_JOB_ID"]
        self.nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
        self.restarts = int(environment.get("SLURM_RESTART_COUNT", "0"))
        self.leaving = 0.0
        """When SIGUSR1 has come; 0: it has not."""
        self.stopped = False

    @property
    def over(self) -> bool:
        """Whether the run is to end now."""
        return self.stopped or self.leaving > 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Slurm's signals while the block runs."""

        def take(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGUSR1:
                self.leaving = self.leaving or time.monotonic()
            elif not self.leaving:  # later Slurm sends SIGTERM too, when it takes the nodes
                self.stopped = True

        before = {number: signal.signal(number, take) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, arguments: Sequence[str]) -> int:
        """Train, and requeue this job if it has to leave before the run is over. Returns the exit code of the run.

        RunFailedError: Ray has not started, or Slurm refuses.
        """
        token, code = secrets.token_hex(32), INTERRUPTED
        with self.listening(), RayNode(token, self.nodes == 1, lambda: self.over) as head:
            store = object_store_bytes(parse_train([*arguments, "--mode", "cluster"]).model)
            if address := head.start("", store):
                say(f"job {self.job}, start {self.restarts + 1}, on {socket.gethostname()}: Ray cluster at {address}")
                with self._others(address, token, store, head.environment):
                    code = INTERRUPTED if self.over else self._train(arguments, address, head.environment)
                    self._requeue(code)
            else:
                self._requeue(code)
        return code

    @contextmanager
    def _others(self, address: str, token: str, store: int, environment: Mapping[str, str]) -> Iterator[None]:
        """The nodes beside this one, in a step of the job."""
        if self.nodes == 1:
            yield
            return
        others = str(self.nodes - 1)
        command = [
            "srun", "--relative=1", f"--nodes={others}", f"--ntasks={others}", "--ntasks-per-node=1",
            *([f"--cpus-per-task={cpus}"] if (cpus := os.environ.get("SLURM_CPUS_PER_TASK")) else []),
            "--kill-on-bad-exit=0", sys.executable, "-P", "-m", "deploy.launch.slurm.ray_node", address, str(store),
        ]  # fmt: skip
        step = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        assert step.stdin
        with suppress(BrokenPipeError):  # every task reads the same
            step.stdin.write(f"{token}\n")
            step.stdin.flush()
        try:
            self._await(step, address, environment)
            yield
        finally:
            with suppress(BrokenPipeError):
                step.stdin.close()  # which ends them
            try:
                step.wait(ASKING)
            except subprocess.TimeoutExpired:
                step.kill()
                step.wait()

    def _await(self, step: subprocess.Popen[str], address: str, environment: Mapping[str, str]) -> None:
        """Until all nodes have joined; what is missing after JOINING seconds, the run does without."""
        os.environ.update({name: value for name, value in environment.items() if name.startswith("RAY_")})
        deadline, there = time.monotonic() + JOINING, 1
        while there < self.nodes and step.poll() is None and time.monotonic() < deadline and not self.over:
            with suppress(ValueError):  # it is too busy to answer in time
                there = len(look_at(address).nodes)
        say(f"{there} of {self.nodes} nodes have joined")

    def _train(self, arguments: Sequence[str], address: str, environment: Mapping[str, str]) -> int:
        command = [sys.executable, "-P", "-m", "deploy.cli", "train", *arguments]
        command += ["--mode", "cluster", "--cluster.address", address]
        asked = False
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        while (code := process.poll()) is None:
            if self.over and not asked:
                say("asked to leave: the run saves, and the job is requeued" if self.leaving else "asked to stop")
                process.send_signal(signal.SIGHUP)  # scancel sends SIGTERM to all of a job's processes; two end a run
                asked = True
            if self.leaving and time.monotonic() > self.leaving + self.grace - REQUEUE:
                say("not saved in time; the run will continue from its last checkpoint")
                process.kill()
                process.wait()
                return INTERRUPTED
            time.sleep(0.2)
        return INTERRUPTED if code == -signal.SIGHUP else code  # it had just begun

    def _requeue(self, code: int) -> None:
        """If the run has left because it had to. Before the cluster is taken down: there may be little time."""
        if code != INTERRUPTED or self.stopped or not self.leaving:
            return
        try:
            done = subprocess.run(["scontrol", "requeue", self.job], capture_output=True, text=True, timeout=ASKING)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunFailedError(f"Saved, but the job could not be requeued: {error}.") from error
        if done.returncode:
            raise RunFailedError(f"Saved, but Slurm does not requeue the job: {done.stderr.strip()}")
        say("saved and requeued")


def say(line: str) -> None:
    """A line for the job's output, among those of `nexus train`."""
    print(f"nexus launch: {line}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    try:
        return Allocation(float(arguments[0]), os.environ).run(arguments[1:])
    except (RunFailedError, ValueError) as error:
        print(error, file=sys.stderr, flush=True)
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
