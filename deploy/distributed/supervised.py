"""What a local run watches over and brings back: Ray actors and the learner. Torch-free."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

from actors.faults import BrokenEnvironmentError
from deploy.exit_codes import DISK_FULL, NON_FINITE, REFUSED
from deploy.run_failed import RunFailedError
from learner.checkpoint import continuation

SILENCE = 180.0  # seconds after which a mute process counts as hung
START = 300.0  # the same for one that has never been heard of
RESTARTS = 5  # in a row without progress between them
WORKED = 60.0  # seconds that a process must have lived before its work counts as progress


@dataclass(kw_only=True)
class Restarts:
    """How often something failed in a row, and when it may start again."""

    failures: int = 0
    reason: str = ""
    started: float = 0.0
    retry_at: float = 0.0

    def begin(self) -> None:
        self.started = time.monotonic()

    def worked(self) -> None:
        self.failures, self.reason = 0, ""

    def failed(self, name: str, reason: str, hopeless: bool = False) -> None:
        """Count one failure; RunFailedError where another start would not help."""
        self.failures += 1
        if hopeless:
            raise RunFailedError(f"{name} failed: {reason}")
        if self.failures > RESTARTS:
            raise RunFailedError(f"{name} failed {self.failures} times in a row; the last time: {reason}")
        self.reason = reason
        self.retry_at = time.monotonic() + (0 if self.failures == 1 else min(30.0, 2.0**self.failures))

    @property
    def alive(self) -> float:
        """Seconds since the last start."""
        return time.monotonic() - self.started

    def hung(self, silent: float | None) -> bool:
        """`silent`: seconds since the last sign of life, None before the first."""
        return self.alive > START if silent is None else silent > SILENCE


class Supervised:
    """A Ray actor whose `run` goes on until the run is over. `restarted(name, reason)` is told of every restart."""

    def __init__(
        self, name: str, start: Callable[[], ActorHandle], logdir: Path, note: Callable[[str], None],
        restarted: Callable[[str, str], None],
    ):  # fmt: skip
        self.name, self.start, self.note, self.restarted = name, start, note, restarted
        self.log = logdir / f"{name.replace(' ', '-')}.log"
        self.restarts = Restarts()
        self.died: float | None = None
        self.handle: ActorHandle | None = None
        self.task: ObjectRef | None = None

    def launch(self) -> None:
        self.restarts.begin()
        self.handle = self.start()
        self.task = self.handle.call.remote("run")

    def check(self, silent: float | None, worked: bool, process: int | None = None) -> bool:
        """Look once and do what is needed; True if it was found dead just now. Raises RunFailedError.

        `silent`: seconds since its last sign of life, None before the first; `worked`: it got enough done in this life
        that its failures may be forgotten; `process`: its number, once that is known.
        """
        if self.task is None:
            if time.monotonic() >= self.restarts.retry_at:
                self.launch()
                self.restarted(self.name, self.restarts.reason)
            return False
        if self.died is not None and silent is not None:
            self.note(f"{self.name} is back after {time.monotonic() - self.died:.1f} s.")
            self.died = None
        ready, _ = ray.wait([self.task], timeout=0)
        if not ready:
            if worked and self.restarts.alive > WORKED:
                self.restarts.worked()
            if self.restarts.hung(silent):
                heard = f"silent for {silent:.0f} s" if silent is not None else f"starting for {START:.0f} s"
                self.note(f"{self.name} has been {heard}; it is killed and restarted.")
                assert self.handle is not None
                ray.kill(self.handle)
                if process:
                    kill(process)
            return False
        self._bury()
        return True

    def _bury(self) -> None:
        assert self.task is not None
        reason, hopeless = "it ended by itself", False
        try:
            ray.get(self.task)
        except RayError as error:
            reason, own = reason_of(error)
            broken = isinstance(cause_of(error), BrokenEnvironmentError)
            hopeless = broken or own and reason == self.restarts.reason
            with self.log.open("a") as log:
                log.write(f"{datetime.now().isoformat(timespec='seconds')} {error}\n\n")
        self.died, self.task = time.monotonic(), None
        self.restarts.failed(self.name, reason, hopeless)
        self.note(f"{self.name} died ({reason}); restarting it.")


class LearnerChild:
    """The learner process, in a session of its own: Ctrl-C must not reach it while it starts. Only a newer checkpoint
    lets its failures be forgotten: what it did beyond that is lost with it."""

    def __init__(
        self, command: list[str], logdir: Path, note: Callable[[str], None], restarted: Callable[[str, str], None]
    ):
        """`command`: to it comes the checkpoint to begin with. `restarted`: see `Supervised`."""
        self.command, self.log, self.note, self.restarted = command, logdir / "learner.log", note, restarted
        self.restarts = Restarts()
        self.process: subprocess.Popen | None = None
        self._saved: int | None = None

    def launch(self, checkpoint: str) -> None:
        """`checkpoint`: its name, `none` or `newest`."""
        self.restarts.begin()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, checkpoint], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def check(self, saved: int, silent: float | None) -> bool:
        """As `Supervised.check`; `saved`: updates of the newest checkpoint, -1 if there is none."""
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
                self.note(f"the learner has given no sign of life for {silent or START:.0f} s; it is killed.")
                self.process.kill()
            return False
        if code == NON_FINITE:
            raise RunFailedError(f"Training diverged. {self.tail()}")
        if code == DISK_FULL:
            raise RunFailedError(f"{self.tail()} Free some space; the same command {continuation(saved)}.")
        if code == REFUSED:
            raise RunFailedError(f"The learner cannot start. {self.tail()}")
        self.process = None
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        try:
            self.restarts.failed("The learner", how)
        except RunFailedError as error:
            raise RunFailedError(f"{error}. {self.tail()}") from error
        source = f"checkpoint {saved}" if saved >= 0 else "the beginning"
        self.note(f"the learner died ({how}); restarting it from {source}.")
        return True

    def wait(self, timeout: float, patience: float) -> None:
        """Until it has saved and ended, as it was asked to; by SIGTERM too if it has not within `patience` seconds: it
        may be waiting for a store. RunFailedError: it could not save, or not within `timeout` seconds."""
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
            raise RunFailedError(f"The learner could not save (exit code {code}). {self.tail()}")

    def ask_to_end(self) -> None:
        """By a signal: it saves and ends, unless it cannot."""
        if self.process:
            self.process.terminate()

    def end(self) -> None:
        """Let nothing of it remain."""
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


def kill(process: int) -> None:
    """End a process of this machine at once: one that is stopped does not do what Ray asks of it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def cause_of(error: BaseException) -> BaseException:
    """What was raised first, through however many Ray calls it came."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException) and error.cause is not error:
        error = error.cause
    return error


def reason_of(error: RayError) -> tuple[str, bool]:
    """One line, and whether the code itself raised (rather than that its process was lost)."""
    cause = cause_of(error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [""]
    if isinstance(cause, RayActorError):
        raised = "creation task" in lines[0]  # the constructor's traceback follows
        return lines[-1 if raised else 0], raised
    return f"{type(cause).__name__}: {lines[-1]}", not isinstance(cause, RayError)
