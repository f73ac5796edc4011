"""The learner on a node of the cluster, as the supervisor holds it. Torch-free."""

import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError

from deploy.distributed.process_end import reason_of
from deploy.distributed.whereabouts import end

POLL = 0.5  # seconds between looks at the learner; never asking means that the supervisor is gone
ANSWER = 15.0  # seconds for the launcher to answer
LOST = 255  # exit code of a learner whose node is gone


class RemoteLearner:
    """A `LearnerHandle` for a learner that a `LearnerLauncher` starts. All waiting happens in a thread of its own."""

    def __init__(
        self, launch: Callable[[Callable[[], bool]], ActorHandle | None], *arguments: str
    ):  # fmt: skip
        """`launch(over)`: the launcher, once a node has room for it; None if `over()` came first. `arguments`: see
        `start_learner`."""
        self._launch, self._start = launch, arguments
        self._launcher: ActorHandle | None = None
        self._code: int | None = None
        self._ending = ""
        self._over = threading.Event()
        self._signals: list[int] = []
        self._sent: list[int] = []
        threading.Thread(target=self._follow, name="learner", daemon=True).start()

    def poll(self) -> int | None:
        return self._code if self._over.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._over.wait(timeout):
            raise subprocess.TimeoutExpired("learner", timeout or 0)
        assert self._code is not None
        return self._code

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def ending(self) -> str:
        return self._ending

    def _send(self, number: int) -> None:
        if number not in self._signals:
            self._signals.append(number)

    def _follow(self) -> None:
        try:
            self._launcher = self._launch(lambda: bool(self._signals))
            if self._launcher is None:
                self._end(0, "it was not started")
                return
            self._ask("start", *self._start)
            while not self._ended():
                self._over.wait(POLL)
        except Exception as error:  # its node is gone, or cannot start it
            reason = reason_of(error)[0] if isinstance(error, RayError) else str(error)
            if self._launcher is not None:
                with suppress(Exception):  # Ray itself may be gone
                    ray.kill(self._launcher)  # one that is late would start a second learner
            self._end(LOST, f"with its launcher: {reason}")

    def _ended(self) -> bool:
        """Send it the signals that are due, and look whether it has ended."""
        assert self._launcher
        try:
            while len(self._sent) < len(self._signals):
                number = self._signals[len(self._sent)]
                self._ask("send", number)
                self._sent.append(number)
            code, ending = self._ask("poll")
        except GetTimeoutError:
            if signal.SIGKILL in self._signals:
                end(self._launcher)  # which the next question finds out
            return False
        if code is not None:
            ray.kill(self._launcher)
            self._end(code, ending)
        return code is not None

    def _ask(self, method: str, *arguments: object) -> Any:
        assert self._launcher
        return ray.get(self._launcher.call.remote(method, *arguments), timeout=ANSWER)

    def _end(self, code: int, ending: str) -> None:
        self._code, self._ending = code, ending
        self._over.set()
