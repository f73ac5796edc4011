"""How the processes of a run reach its coordinator, which may die and be brought back. Torch-free."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

COORDINATOR = "coordinator"
AWAY = 150.0  # seconds for the supervisor to notice that it is gone or hangs, and to replace it
_PAUSE = 0.1


class CoordinatorLostError(ConnectionError):
    """The coordinator does not answer and has not been replaced."""


class CoordinatorClient:
    """Calls methods of the run's coordinator by name; may be used by any thread.

    `give_up` is called about once a second during a wait; true ends it.
    """

    def __init__(self, give_up: Callable[[], bool] = lambda: False):
        self.give_up = give_up
        self._actor: ActorHandle | None = None
        self._told: ObjectRef | None = None

    def ask(self, method: str, *arguments: Any, again: tuple[Any, ...] | None = None) -> Any:
        """Wait for the answer; a coordinator that dies meanwhile is asked again once it is back.

        `again`: the arguments of the repeated call, if nothing may be counted twice. CoordinatorLostError: it is not
        back within AWAY seconds, or `give_up` returned true.
        """
        begun = time.monotonic()
        while True:
            answer = self.begin(method, *arguments)
            if answer is not None:
                try:
                    while not ray.wait([answer], timeout=1.0)[0]:
                        self._require(method, begun)
                    return ray.get(answer)
                except RayActorError:
                    self._actor = None
                    arguments = arguments if again is None else again
            self._require(method, begun)
            time.sleep(_PAUSE)

    def begin(self, method: str, *arguments: Any) -> ObjectRef | None:
        """Ask without waiting; pass the reference to `result`. None: there is no coordinator at the moment."""
        try:
            actor = self._actor = self._actor or ray.get_actor(COORDINATOR)
        except ValueError:  # there is none of this name
            return None
        return actor.call.remote(method, *arguments)

    def result(self, reference: ObjectRef) -> Any:
        """The answer to `begin`, waiting for it; None: the coordinator died before it answered."""
        try:
            return ray.get(reference)
        except RayActorError:
            self._actor = None
            return None

    def tell(self, method: str, *arguments: Any) -> None:
        """Tell without waiting or repeating; the next call finds a coordinator that is back."""
        if self._told is not None:
            if not ray.wait([self._told], timeout=0)[0]:
                return  # it has not taken in what it was told before
            self.result(self._told)
        self._told = self.begin(method, *arguments)

    def _require(self, method: str, begun: float) -> None:
        waited = time.monotonic() - begun
        if self.give_up() or waited > AWAY:
            raise CoordinatorLostError(f"The run's coordinator has not answered `{method}` for {waited:.0f} s.")
