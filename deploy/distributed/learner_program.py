"""The learner's process, as whoever starts it on its machine holds it. Torch-free."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

PROGRAM = ["-u", "-P", "-m", "deploy.distributed.learner_process"]


class LearnerHandle(Protocol):
    """The learner's process; the methods of `subprocess.Popen` that the supervisor needs."""

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def ending(self) -> str:
        """How it ended, in words."""
        ...


class LearnerProgram(subprocess.Popen[bytes]):
    """The learner as a child of this process, in a session of its own: Ctrl-C must not reach it while it starts. What
    it has started itself, the other processes of its group, is killed with it, and when it has ended."""

    def __init__(self, command: Sequence[str], given: str, log: Path, environment: Mapping[str, str] | None = None):
        """`given`: its standard input; its output is appended to `log`."""
        with log.open("ab") as output, TemporaryFile() as file:
            file.write(given.encode())
            file.seek(0)
            super().__init__(
                command, stdin=file, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )

    def send_signal(self, sig: int) -> None:
        if sig == signal.SIGKILL and self.poll() is None:
            self._kill_session()
        else:
            super().send_signal(sig)

    def poll(self) -> int | None:
        ended = self.returncode is not None
        code = super().poll()
        if code is not None and not ended:  # at once: its number is free for another process when all are gone
            self._kill_session()
        return code

    def _kill_session(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self.pid, signal.SIGKILL)

    def ending(self) -> str:
        code = self.returncode
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def start_learner(
    environment: Mapping[str, str] | None, logdir: str, address: str, namespace: str, checkpoint: str, given: str
) -> LearnerProgram:
    """Start the learner in the Ray instance at `address`; see `learner_process`."""
    command = [sys.executable, *PROGRAM, logdir, address, namespace, str(os.getpid()), checkpoint]
    return LearnerProgram(command, given, Path(logdir) / "learner.log", environment)
