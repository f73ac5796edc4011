"""Starts the server from which environments are forked, and asks it to fork and to end them."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

from actors.faults import OutsideError
from actors.isolation.isolated_channel import Channel, ClosedError, Message
from replay.redis_url import PASSWORD_VARIABLE

ENDING = 10.0  # seconds for the server to answer that a process has ended, and to end itself
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from actors.isolation.isolated_process import main; main()"
)
_SECRETS = (PASSWORD_VARIABLE, "RAY_AUTH_TOKEN")  # which are no business of an environment
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ForkServer:
    """One server, which is started when it is first needed, and again if it has ended. May be used by any thread."""

    def __init__(self, task: str) -> None:
        self.task = task
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._finish: weakref.finalize | None = None

    def fork(self, document: dict[str, Any], files: Sequence[int], timeout: float) -> int:
        """The process of a new environment. OutsideError: there is none within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout=timeout):
            raise self._late(timeout)
        try:
            self._start()
            answer = self._ask(b"m", document, files, deadline)
        except TimeoutError:
            self._stop()
            raise self._late(timeout) from None
        except ClosedError:
            self._stop()
            raise OutsideError(
                "crash", "importing its module ended the process", "`nexus check-env` with this task tells more."
            ) from None
        finally:
            self._lock.release()
        return int(answer.document["process"])

    def end(self, process: int, patience: float) -> int | None:
        """The exit code of a process, which is killed unless it ends within `patience` seconds; None: unknown, since
        the server has ended, and all its environments with it."""
        with self._lock:
            if self._channel is None:
                return None
            document = {"process": process, "patience": patience}
            try:
                answer = self._ask(b"e", document, (), time.monotonic() + patience + ENDING)
            except (TimeoutError, ClosedError):
                self._stop()
                return None
            return None if answer.document["code"] is None else int(answer.document["code"])

    def close(self) -> None:
        """End the server and all its environments."""
        with self._lock:
            self._stop()

    def _late(self, timeout: float) -> OutsideError:
        return OutsideError(
            "timeout", f"importing its module has taken more than {timeout:g} s", "Raise actor.reset_timeout."
        )

    def _ask(self, kind: bytes, document: dict[str, Any], files: Sequence[int], deadline: float) -> Message:
        assert self._channel is not None, "the server is started first"
        self._channel.send(kind, document, files=files)
        return self._channel.receive(deadline)

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._stop()
        own, other = socket.socketpair()
        with other:
            command = [sys.executable, "-P", "-u", "-c", _BOOT, json.dumps(sys.path), str(other.fileno()), self.task]
            self._process = subprocess.Popen(
                [*command, str(os.getpid())], pass_fds=[other.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                env={name: "1" for name in _THREADS} | {k: v for k, v in os.environ.items() if k not in _SECRETS},
            )  # fmt: skip
        self._channel = Channel(own)
        self._finish = weakref.finalize(self, _finish, self._process, self._channel)

    def _stop(self) -> None:
        if self._finish is not None:
            self._finish()
        self._process = self._channel = self._finish = None


def _finish(process: subprocess.Popen[bytes], channel: Channel) -> None:
    """It ends with the channel, and its environments with it."""
    channel.close()
    try:
        process.wait(ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
