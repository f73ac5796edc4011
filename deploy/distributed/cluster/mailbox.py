"""How those who reach a run through Ray alone steer it and look at it. Free of torch."""

from collections.abc import Mapping
from typing import Any

KEPT = 100  # answers; who asked may have left
Request = tuple[str, dict[str, Any]]


class Mailbox:
    """Keeps requests for the supervisor, its answers, and what `status.json` says."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._answers: dict[str, dict[str, Any]] = {}
        self._status: dict[str, Any] = {}

    def request(self, name: str, request: Mapping[str, Any]) -> None:
        """Pass a request on to the supervisor; its answer is kept under `name`."""
        self._requests.append((name, dict(request)))

    def withdraw(self, name: str) -> bool:
        """Take a request back; False: the supervisor has it already, or it is not known."""
        kept = [request for request in self._requests if request[0] != name]
        withdrawn, self._requests = len(kept) < len(self._requests), kept
        return withdrawn

    def take_requests(self) -> list[Request]:
        """Those since the last call, each with its name."""
        requests, self._requests = self._requests, []
        return requests

    def answer(self, name: str, answer: Mapping[str, Any]) -> None:
        """The supervisor's answer to a request."""
        self._answers[name] = dict(answer)
        while len(self._answers) > KEPT:
            del self._answers[next(iter(self._answers))]

    def answered(self, name: str) -> dict[str, Any] | None:
        """The answer to a request, once; None if there is none yet."""
        return self._answers.pop(name, None)

    def show(self, status: Mapping[str, Any]) -> None:
        """Keep what `status.json` says, for those who do not see the run's directory."""
        self._status = dict(status)

    def status(self) -> dict[str, Any]:
        return self._status
