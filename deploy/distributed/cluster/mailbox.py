"""How those who reach a run through Ray alone steer it and look at it. Free of torch."""

from collections.abc import Mapping
from typing import Any

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

    def take_requests(self) -> list[Request]:
        """Those since the last call, each with its name."""
        requests, self._requests = self._requests, []
        return requests

    def answer(self, name: str, answer: Mapping[str, Any]) -> None:
        """The supervisor's answer to a request."""
        self._answers[name] = dict(answer)

    def answered(self, name: str) -> dict[str, Any] | None:
        """The answer to a request, once; None if there is none yet."""
        return self._answers.pop(name, None)

    def show(self, status: Mapping[str, Any]) -> None:
        """Keep what `status.json` says, for those who do not see the run's directory."""
        self._status = dict(status)

    def status(self) -> dict[str, Any]:
        return self._status
