"""The learner of a local run, as the supervisor starts it, watches it and brings it back."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from deploy.distributed.learner_program import LearnerHandle
from deploy.distributed.supervisor.restart_policy import START, RestartPolicy
from deploy.exit_codes import DISK_FULL, NON_FINITE, REFUSED
from deploy.run_failed import RunFailedError
from learner.checkpoint import continuation


class LearnerChild:
    """The learner process. Its failures are forgotten only when there is a newer checkpoint: whatever it did after that
    is lost with it."""

    def __init__(
        self, start: Callable[[str], LearnerHandle], logdir: Path, note: Callable[[str], None],
        restarted: Callable[[str, str], None],
    ):  # fmt: skip
        """`start(checkpoint)`: its name, `none` or `newest`. `restarted`: see `WorkerChild`."""
        self.start, self.log, self.note, self.restarted = start, logdir / "learner.log", note, restarted
        self.restarts = RestartPolicy()
        self.process: LearnerHandle | None = None
        self._saved: int | None = None

    def launch(self, checkpoint: str) -> None:
        self.restarts.begin()
        self.process = self.start(checkpoint)

    def check(self, saved: int, silent: float | None) -> bool:
        """As `WorkerChild.check`; `saved`: updates of the newest checkpoint, -1 if there is none."""
        self._saved = saved if self._saved is None else self._saved
        if saved > self._saved:
            self._saved = saved
            self.restarts.worked()
        if self.process is None:
            if time.monotonic() >= self.restarts.retry_at:
                self.launch("newest")
                self.restarted("learner", self.restarts.reason)
            return False
        code = self.process.poll()
        if code is None:
            if self.restarts.hung(silent):
                self.note(f"the learner has given no sign of life for {silent or START:.0f} s; killing it.")
                self.process.kill()
            return False
        if code == NON_FINITE:
            raise RunFailedError(f"Training diverged. {self.tail()}")
        if code == DISK_FULL:
            raise RunFailedError(f"{self.tail()} Free some space; the same command {continuation(saved)}.")
        if code == REFUSED:
            raise RunFailedError(f"The learner cannot start. {self.tail()}")
        how, self.process = self.process.ending(), None
        try:
            self.restarts.failed("The learner", how)
        except RunFailedError as error:
            raise RunFailedError(f"{error}. {self.tail()}") from error
        source = f"checkpoint {saved}" if saved >= 0 else "the beginning"
        self.note(f"the learner died ({how}); restarting it from {source}.")
        return True

    def wait(self, timeout: float, patience: float) -> None:
        """Wait until it has saved and exited, as it was asked to. After `patience` seconds it is sent SIGTERM: it may
        be waiting for a store. RunFailedError: it could not save, or not within `timeout` seconds."""
        if self.process is None:
            return
        try:
            try:
                code = self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                code = self.process.wait(timeout - patience)
        except subprocess.TimeoutExpired as error:
            raise RunFailedError(f"The learner has not saved within {timeout:g} s; see {self.log}.") from error
        if code:
            raise RunFailedError(f"The learner could not save ({self.process.ending()}). {self.tail()}")

    def ask_to_end(self) -> None:
        """Send SIGTERM: it saves and exits if it can."""
        if self.process:
            self.process.terminate()

    def end(self) -> None:
        """Terminate it; kill it if it does not exit."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        try:
            text = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return f"The end of {self.log}:\n" + "\n".join(text[-lines:])
