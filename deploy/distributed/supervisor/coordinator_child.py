"""The coordinator of a local run, as the supervisor starts it, asks it and replaces it."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError

from deploy.distributed.coordinator_client import COORDINATOR
from deploy.distributed.messages import News, State
from deploy.distributed.process_end import reason_of
from deploy.distributed.remote import ask
from deploy.distributed.supervisor.restart_policy import START, RestartPolicy
from deploy.distributed.whereabouts import end
from deploy.run_failed import RunFailedError

SILENCE = 60.0  # seconds; everybody waits for its answers


class CoordinatorChild:
    """Replaces a coordinator that died or hangs by one that starts with the state of the last news. What was reported
    since, a quarter of a second's work, is not counted."""

    def __init__(
        self, start: Callable[[State], ActorHandle], note: Callable[[str], None],
        restarted: Callable[[str, str], None], lost: Callable[[], str] = lambda: "",
    ):  # fmt: skip
        """`restarted`: see `WorkerChild`. `lost`: see `Site`."""
        self.start, self.note, self.restarted, self.lost = start, note, restarted, lost
        self.restarts = RestartPolicy()
        self._actor: ActorHandle | None = None
        self._state: State | None = None
        self._process = 0  # its number, once it has answered

    def launch(self, state: State) -> None:
        self._state = state
        self._actor = self.start(state)

    def ask(self, method: str, *arguments: Any) -> Any:
        """Wait for an answer. RunFailedError: it fails again and again, or Ray itself is gone."""
        while True:
            assert self._actor
            patience = SILENCE if self._process else START
            try:
                return ask(self._actor, method, *arguments, timeout=patience)
            except GetTimeoutError:
                self._replace(f"silent for {patience:g} s")
            except RayActorError as error:
                self._replace(reason_of(error)[0])

    def tell(self, method: str, *arguments: Any) -> None:
        """Call a method without waiting for it, or for whether it succeeds."""
        assert self._actor
        self._actor.call.remote(method, *arguments)

    def news(self) -> News:
        """What is new since the last call."""
        news: News = self.ask("news")
        self._state = news.state
        self._process = news.processes[COORDINATOR]
        return news

    def scale(self, actors: int, min_size: int) -> None:
        """See `Coordinator.scale`; a replacement knows of it even if it comes before the next news."""
        assert self._state
        self._state = replace(self._state, actors=actors)
        self.ask("scale", actors, min_size)

    def set_ratio(self, samples_per_insert: float, tolerance: float) -> None:
        """See `Coordinator.set_ratio`; a replacement knows of it as of `scale`."""
        assert self._state
        self._state = replace(self._state, ratio=(samples_per_insert, tolerance))
        self.ask("set_ratio", samples_per_insert, tolerance)

    def ask_checkpoint(self) -> None:
        """See `Coordinator.ask_checkpoint`; a replacement knows of it as of `scale`."""
        assert self._state
        self._state = replace(self._state, checkpoint_asked=True)
        self.ask("ask_checkpoint")

    def _replace(self, reason: str) -> None:
        if lost := self.lost():
            raise RunFailedError(f"{lost}, so the run cannot go on.")
        self.restarts.failed("The coordinator", reason)
        time.sleep(max(0.0, self.restarts.retry_at - time.monotonic()))
        if self._actor:
            end(self._actor)
        self._process = 0
        assert self._state
        self._actor = self.start(self._state)
        self.restarted(COORDINATOR, reason)
        frames, updates = self._state.counters.get("frames", 0), self._state.counters.get("updates", 0)
        self.note(f"the coordinator died ({reason}); a new one continues at {frames:,} frames, update {updates:,}.")
