"""`nexus` in processes that are forked from one which has imported PyTorch already: importing it takes longer than most
tests. Everything else is as if they had been started by a shell.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.session import shared

READY = 60.0  # seconds for the parent of all to import what it needs


class Forked:
    """A running command; of `subprocess.Popen` what tests use."""

    def __init__(self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], out: IO[Any], err: IO[Any]) -> None:
        self.args, self.returncode = list(arguments), None
        request = {"arguments": self.args, "cwd": str(cwd), "env": dict(env)}
        self.pid = int(_ask(request, [out.fileno(), err.fileno()])["pid"])

    returncode: int | None

    def poll(self) -> int | None:
        """The exit code; minus its number where a signal has ended it."""
        if self.returncode is None:
            self.returncode = _ask({"ended": self.pid})["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind:
            self.kill()
        self.wait()


_channel: socket.socket | None = None
_one_at_a_time = threading.Lock()


def _ask(request: Mapping[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
    global _channel
    with _one_at_a_time:
        channel = _channel or _begin()
        try:
            socket.send_fds(channel, [json.dumps(request).encode()], list(files))
            answer: dict[str, Any] = json.loads(channel.recv(1 << 16))
        except BaseException:  # its answer would be taken for that to the next request
            channel.close()
            _channel = None
            raise
        return answer


def _begin() -> socket.socket:
    """Start the process from which all are forked; it ends with this one's side of the channel."""
    global _channel
    _channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _channel.settimeout(READY)
    env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1", PYTHONPATH=str(Path(__file__).parents[2]))
    command = [sys.executable, "-u", "-m", "tests.integration.forked", str(other.fileno())]
    parent = subprocess.Popen(
        command, env=env, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
    )  # fmt: skip
    other.close()

    def close() -> None:
        global _channel
        if _channel:
            _channel.close()
        _channel = None
        parent.wait(300)

    shared.callback(close)
    return _channel


def _serve(channel: socket.socket) -> list[str]:
    """Fork a process for every request; returns in each of them, with its command line."""
    while True:
        data, files, _, _ = socket.recv_fds(channel, 1 << 20, 2)
        if not data:
            os._exit(0)
        request = json.loads(data)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            channel.send(json.dumps({"code": os.waitstatus_to_exitcode(status) if pid else None}).encode())
        elif pid := os.fork():
            for file in files:
                os.close(file)
            channel.send(json.dumps({"pid": pid}).encode())
        else:
            channel.close()
            os.setsid()
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            for number, file in enumerate(files, start=1):
                os.dup2(file, number)
                os.close(file)
            arguments: list[str] = request["arguments"]
            return arguments


def _main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    import deploy.inline_run
    import deploy.pretrain_run
    import deploy.reports.summary  # noqa: F401  so that matplotlib is there too
    from deploy.cli import main

    arguments = _serve(channel)
    sys.path[0] = os.getcwd()  # where `python -m` puts it
    sys.argv = ["nexus", *arguments]
    main()


if __name__ == "__main__":
    _main()
