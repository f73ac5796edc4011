"""An environment worker or the evaluator of a local run, as the supervisor starts it and brings it back."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.faults import BrokenEnvironmentError
from deploy.distributed.messages import NO_ENVIRONMENTS
from deploy.distributed.process_end import cause_of, reason_of
from deploy.distributed.supervisor.restart_policy import SILENCE, START, RestartPolicy
from deploy.distributed.whereabouts import end

PLACED = 5.0  # seconds for Ray to place a process
WORKED = 60.0  # seconds that a process must have lived before its work counts as progress


class WorkerChild:
    """A Ray actor whose `run` lasts until the run is over. `restarted(name, reason)` is called at every restart."""

    def __init__(
        self, name: str, start: Callable[[], ActorHandle], logdir: Path, note: Callable[[str], None],
        restarted: Callable[[str, str], None], awaits: Callable[[ActorHandle], str] = lambda handle: "",
        silence: float = SILENCE,
    ):  # fmt: skip
        """`awaits`: see `Site`. `silence`: seconds without a sign of life after which it is killed."""
        self.awaits, self.awaited = awaits, ""
        self.name, self.start, self.note, self.restarted = name, start, note, restarted
        self.log = logdir / f"{name.replace(' ', '-')}.log"
        self.restarts = RestartPolicy(silence=silence)
        self.idle = False
        """It has ended, for lack of environments, and is not started again."""
        self.died: float | None = None
        self.handle: ActorHandle | None = None
        self.task: ObjectRef | None = None

    def launch(self) -> None:
        self.restarts.begin()
        self.handle = self.start()
        self.task = self.handle.call.remote("run")

    @property
    def ended(self) -> bool:
        """Its process has ended, or has not been started again yet."""
        return self.task is None or bool(ray.wait([self.task], timeout=0)[0])

    @property
    def returned(self) -> bool:
        """It has ended as somebody told it to, not by a failure."""
        if self.task is None or not self.ended:
            return False
        try:
            ray.get(self.task)
        except RayError:
            return False
        return True

    def check(self, silent: float | None, worked: bool) -> bool:
        """Look once, and kill or restart it if necessary; True if it was just found dead. RunFailedError: give up.

        `silent`: seconds since its last sign of life, None before the first; `worked`: it has done enough in
        this life for its failures to be forgotten.
        """
        if self.idle:
            return False
        if self.task is None:
            if time.monotonic() >= self.restarts.retry_at:
                self.launch()
                self.restarted(self.name, self.restarts.reason)
            return False
        if self.died is not None and silent is not None:
            self.note(f"{self.name} is back after {time.monotonic() - self.died:.1f} s.")
            self.died = None
            self.awaited = ""
        if not self.ended:
            if silent is None and self._waits():
                return False
            if worked and self.restarts.alive > WORKED:
                self.restarts.worked()
            if self.restarts.hung(silent):
                heard = f"silent for {silent:.0f} s" if silent is not None else f"starting for {START:.0f} s"
                self.note(f"{self.name} has been {heard}; killing and restarting it.")
                assert self.handle is not None
                end(self.handle)
            return False
        self._bury()
        return True

    def _waits(self) -> bool:
        """Whether Ray has found no place for it yet; what it waits for is noted once."""
        assert self.handle is not None
        if self.restarts.alive < PLACED or not (awaited := self.awaits(self.handle)):
            return False
        if awaited != self.awaited:
            self.awaited = awaited
            self.note(f"{self.name} waits for {awaited}.")
        self.restarts.begin()
        return True

    def _bury(self) -> None:
        assert self.task is not None
        reason, hopeless = "it exited on its own", False
        try:
            self.idle = ray.get(self.task) == NO_ENVIRONMENTS
        except RayError as error:
            reason, own = reason_of(error)
            broken = isinstance(cause_of(error), BrokenEnvironmentError)
            hopeless = broken or own and reason == self.restarts.reason
            with self.log.open("a") as log:
                log.write(f"{datetime.now().isoformat(timespec='seconds')} {error}\n\n")
        self.died, self.task = time.monotonic(), None
        if self.idle:
            self.note(f"{self.name} has ended: all its environments are quarantined.")
            if self.handle is not None:  # its process would stay
                end(self.handle)
                self.handle = None
            return
        self.restarts.failed(self.name, reason, hopeless)
        self.note(f"{self.name} died ({reason}); restarting it.")
