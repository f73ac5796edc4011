"""A node of a Ray cluster inside an allocation. Torch-free.

`python -m deploy.launch.slurm.ray_node ADDRESS STORE_BYTES` joins a cluster, on every node of the allocation but the
first; its standard input holds the token in a line, and ends when the node is to end.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from deploy.run_failed import RunFailedError

STARTING = 180.0  # seconds; Ray is often read from a slow file system, and gives each of its processes 30
STARTS = 3
ENDING = 20.0  # seconds
LONGEST = 38  # characters of the folder: Ray's sockets lie 69 further down, and 107 are a socket's most
OWN = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables that may speak of another cluster."""
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes 127.0.0.1 the address of a node, on Linux too: nothing of it can be reached from another machine."""


class RayNode:
    """Keeps token, logs and sockets in a folder of its own, which only this user can enter and which goes with it. No
    port is fixed: other clusters may run on the same machine."""

    def __init__(self, token: str, alone: bool, over: Callable[[], bool]):
        """`alone`: the cluster has no other node; `over`: whether to give up starting."""
        self.folder = Path(tempfile.mkdtemp(prefix="nexus-job-", dir=_parent()))  # of mode 0700
        self.environment = {name: value for name, value in os.environ.items() if name not in OWN}
        self.environment |= {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0", **(ON_LOOPBACK if alone else {}),
        }  # fmt: skip
        self._alone, self._over = alone, over
        self._process: subprocess.Popen[bytes] | None = None
        descriptor = os.open(self.folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, address: str, store_bytes: int) -> str:
        """Join the cluster at `address`, or start one if it is empty. Returns the address, HOST:PORT; empty if it is
        over first. RunFailedError: Ray does not start."""
        for attempt in range(STARTS):
            folder = self.folder / f"ray{attempt}"
            command = [
                sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block",
                *([f"--address={address}"] if address else self._head()), f"--temp-dir={folder}",
                f"--object-store-memory={store_bytes}", *offered(os.environ),
                "--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0",
                "--disable-usage-stats", "--log-color=false",
            ]  # fmt: skip
            log = self.folder / f"ray{attempt}.log"
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
            written = folder / "ray_current_cluster"  # Ray's last act before it blocks
            deadline = time.monotonic() + STARTING
            while self._process.poll() is None and time.monotonic() < deadline and not self._over():
                with contextlib.suppress(FileNotFoundError):
                    if text := written.read_text():
                        return text
                time.sleep(0.2)
            if self._over():
                return ""
            self._end()
        said = log.read_text(errors="replace").strip().splitlines()[-20:]
        raise RunFailedError("\n".join([f"Ray has not started on {socket.gethostname()} in {STARTS} attempts:", *said]))

    def wait(self) -> None:
        """Until Ray has ended, or it is over."""
        assert self._process
        while self._process.poll() is None and not self._over():
            time.sleep(0.5)

    def _head(self) -> list[str]:
        # Its client server cannot be turned off, and is the only one whose port Ray does not choose by itself.
        options = ["--head", "--port=0", "--include-dashboard=false", f"--ray-client-server-port={free_port()}"]
        return [*options, *["--node-ip-address=127.0.0.1"] * self._alone]

    def _end(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(ENDING)
        self._process.kill()  # what it has started ends with it
        self._process.wait()


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def offered(environment: Mapping[str, str]) -> list[str]:
    """What Slurm has given this job on this node, for Ray, which would count the whole machine."""
    cpus = environment.get("SLURM_CPUS_ON_NODE") or len(os.sched_getaffinity(0))
    devices = environment.get("CUDA_VISIBLE_DEVICES")
    gpus = environment.get("SLURM_GPUS_ON_NODE", "0") if devices is None else devices and devices.count(",") + 1
    return [f"--num-cpus={cpus}", f"--num-gpus={gpus or 0}"]


def _parent() -> str:
    """For temporary files: TMPDIR, which may be this job's own, unless its path is too long for sockets."""
    given = os.environ.get("TMPDIR", "")
    fits = len(given) + len("/nexus-job-12345678") <= LONGEST
    return given if given and fits and os.access(given, os.W_OK) else "/tmp"


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    address, store_bytes = arguments
    ended: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ended.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    token = sys.stdin.readline().strip()
    threading.Thread(target=lambda: ended.append(len(sys.stdin.read())), name="input", daemon=True).start()
    with RayNode(token, alone=False, over=lambda: bool(ended)) as node:
        try:
            node.start(address, int(store_bytes))
        except RunFailedError as error:
            print(error, file=sys.stderr)
            return 1
        node.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
