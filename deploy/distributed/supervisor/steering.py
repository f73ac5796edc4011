"""Requests to a run in progress: they come through its `control` folder or, from those who have the cluster's token,
through its coordinator."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from deploy.distributed.messages import News
from deploy.stored.control import ControlFolder, Unreadable
from deploy.wiring.config import RunConfig

KNOWN = ("actors", "train_ratio", "tolerance", "checkpoint", "stop")
AUTO = "auto"  # in place of a number of actors: the run chooses it from now on
REMEMBERED = 10  # requests shown in status.json


class Steering:
    """Carries out requests, each with an answer; `stopped`: somebody asked for the end of the run."""

    def __init__(
        self, folder: ControlFolder, coordinator: Callable[..., Any], save: Callable[[], None], most_actors: int,
        scale: Callable[[int], dict[str, Any]], autoscale: Callable[[], dict[str, Any]],
        configure: Callable[[RunConfig], None],
    ):  # fmt: skip
        """`coordinator(method, ...)` asks it; `save()` asks for a checkpoint. `scale(actors)`, `autoscale()` and
        `configure(config)` carry out what their names say; the last may raise ValueError."""
        self.stopped = False
        self.last: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        """The newest requests and their answers."""
        self._folder, self._coordinator, self._save, self._most = folder, coordinator, save, most_actors
        self._scale, self._autoscale, self._configure = scale, autoscale, configure
        self._saving: list[tuple[str, bool, Any, dict[str, Any]]] = []
        """Requests that wait for a checkpoint, each with the rest of its answer."""

    def attend(self, news: News, config: RunConfig) -> None:
        """Carry out what has come in, and answer those who wait for a checkpoint if it is there."""
        if news.saved is not None:
            self._saved(news.saved)
        for through, requests in ((False, self._folder.take()), (True, news.requests)):
            for name, request in requests:
                try:
                    answer = self._do(request, config)
                except ValueError as error:
                    answer = {"error": str(error)}
                if "error" not in answer and request.get("checkpoint"):
                    self._saving.append((name, through, request, answer))
                else:
                    self._answer(name, through, request, answer)

    def answer_rest(self, saved: int) -> None:
        """The run ends with the checkpoint of update `saved`: whoever still waits is told."""
        self._saved(saved)
        for name, request in self._folder.take():
            self._answer(name, False, request, {"error": "The run is ending."})

    def _saved(self, updates: int) -> None:
        for name, through, request, answer in self._saving:
            self._answer(name, through, request, answer | {"checkpoint": updates})
        self._saving.clear()

    def _answer(self, name: str, through: bool, request: Any, answer: dict[str, Any]) -> None:
        self.last.append({"request": request, "answer": answer})
        if through:
            self._coordinator("answer", name, answer)
        else:
            self._folder.answer(name, answer)

    def _do(self, request: Any, config: RunConfig) -> dict[str, Any]:
        """The answer, but for a checkpoint. ValueError: the request cannot be carried out."""
        if isinstance(request, Unreadable):
            raise ValueError(f"The request {request}.")
        if not isinstance(request, Mapping) or not request or not request.keys() <= set(KNOWN):
            raise ValueError(f"The request {request!r} is not an object with some of {', '.join(KNOWN)}.")
        answer: dict[str, Any] = {}
        if (actors := request.get("actors")) is not None:
            number = isinstance(actors, int) and not isinstance(actors, bool) and 1 <= actors <= self._most
            if not number and actors != AUTO:
                raise ValueError(f"actors={actors!r} must be a whole number from 1 to {self._most}, or {AUTO!r}.")
            if config.offline:
                raise ValueError("This run learns from stored replay and has no actors to scale.")
        if request.keys() & {"train_ratio", "tolerance"}:
            answer |= self._set_ratio(request, config)
        if actors is not None:
            answer |= self._autoscale() if actors == AUTO else self._scale(actors)
        if request.get("stop"):
            self.stopped = True
            answer["stop"] = True
        if request.get("checkpoint") and not self._saving and not self.stopped:  # the end of a run saves by itself
            self._save()
        return answer

    def _set_ratio(self, request: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
        values = {
            "train_ratio": request.get("train_ratio", config.learner.train_ratio),
            "tolerance": request.get("tolerance", config.replay.tolerance),
        }
        for name, value in values.items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{name}={value!r} must be a number.")
        if config.offline:
            raise ValueError("This run learns from stored replay and has no train ratio.")
        self._configure(with_ratio(config, float(values["train_ratio"]), float(values["tolerance"])))
        return values


def with_ratio(config: RunConfig, ratio: float, tolerance: float) -> RunConfig:
    """`config` with another train ratio and tolerance. ValueError: they do not fit it."""
    return replace(
        config, learner=replace(config.learner, train_ratio=ratio), replay=replace(config.replay, tolerance=tolerance)
    )
