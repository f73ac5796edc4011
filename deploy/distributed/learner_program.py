"""The learner's process, as whoever starts it on its machine holds it. Torch-free."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
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
    """The learner as a child of this process, in a session of its own: Ctrl-C must not reach it while it starts."""

    def __init__(self, command: Sequence[str], given: str, log: Path, environment: Mapping[str, str] | None = None):
        """`given`: its standard input; its output is appended to `log`."""
        with log.open("ab") as output, TemporaryFile() as file:
            file.write(given.encode())
            file.seek(0)
            super().__init__(
                command, stdin=file, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )

    def ending(self) -> str:
        code = self.returncode
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def start_learner(
    environment: Mapping[str, str] | None, logdir: str, address: str, namespace: str, checkpoint: str, given: str
) -> LearnerProgram:
    """Start the learner in the Ray instance at `address`; see `learner_process`."""
    command = [sys.executable, *PROGRAM, logdir, address, namespace, str(os.getpid()), checkpoint]
    return LearnerProgram(command, given, Path(logdir) / "learner.log", environment)
