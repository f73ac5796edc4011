"""An environment in a process of its own: it may hang, leak memory or crash without harm to the one that acts in it."""

import time
from contextlib import suppress
from typing import Any

import numpy as np

from actors import closing
from actors.config import EnvironmentConfig
from actors.environment import CannotDrawError, Step
from actors.faults import BrokenEnvironmentError, OutsideError
from actors.isolation.environment_process import EnvironmentProcess, Limits, RaisedError
from actors.isolation.fork_server import ForkServer
from actors.isolation.isolated_channel import Message, SharedStep
from world_models.dataclass_json import to_json
from world_models.space import Space, Spaces

CLOSING = 5.0  # seconds for close(), after which its process is killed


class IsolatedEnvironments:
    """Makes environments of one task at each call, and keeps the server from which their processes are forked."""

    def __init__(self, task: str, config: EnvironmentConfig, limits: Limits) -> None:
        self.task, self.config, self.limits = task, config, limits
        self.server = ForkServer(task)

    def __call__(self) -> "IsolatedEnvironment":
        """ValueError: the environment cannot be made, or not within `limits.reset` seconds."""
        return IsolatedEnvironment(self.server, self.task, self.config, self.limits)

    def close(self) -> None:
        """End the server, and with it every environment that is still open."""
        self.server.close()


class IsolatedEnvironment:
    """An `Environment`. What it does in its process fails here: an error that it raises, a call that does not return
    within `limits`, memory beyond them, and the end of its process, as OutsideError or BrokenEnvironmentError."""

    def __init__(self, server: ForkServer, task: str, config: EnvironmentConfig, limits: Limits) -> None:
        self._task, self._limits = task, limits
        self._deadline, self._call, self._timeout = 0.0, "", 0.0
        self._process = EnvironmentProcess(server, {"task": task, "environment": to_json(config)}, limits)
        try:
            self._expect("making it", limits.reset)
            made = self._answer(files=True)
        except RaisedError as error:
            self._process.end()
            raise ValueError(error.value or f"Task {task!r} cannot be made: {error.place}: {error.what}") from error
        except BaseException:
            self._process.end()
            raise
        self.observation_space, self.action_space = (_spaces(made.document[side]) for side in ("observation", "action"))
        self.frames_per_step: int = made.document["frames_per_step"]
        self.backend: str = made.document["backend"]
        self._shared = SharedStep(self.observation_space, self.action_space, made.files[0])

    def reset(self, seed: int) -> Step:
        self.begin_reset(seed)
        return self.finish()

    def step(self, action: dict[str, np.ndarray]) -> Step:
        self.begin_step(action)
        return self.finish()

    def begin_reset(self, seed: int) -> None:
        """Let it reset; `finish` waits for the result."""
        self._process.ask(b"r", int(seed))
        self._expect("reset()", self._limits.reset)

    def begin_step(self, action: dict[str, np.ndarray]) -> None:
        """Let it step; `finish` waits for the result."""
        self._shared.put_action(action)
        self._process.ask(b"s")
        self._expect("step()", self._limits.step)

    def finish(self) -> Step:
        """The result of the reset or step that has been begun."""
        return self._shared.step(self._answer().document or ())

    def render(self) -> np.ndarray:
        self._process.ask(b"d")
        self._expect("render()", self._limits.reset)
        message = self._answer()
        return np.frombuffer(message.data, np.uint8).reshape(message.document).copy()

    def close(self) -> None:
        if self._process.ended:
            return
        if closing.hangs(self._task):
            self._process.end()
            return
        self._process.ask(b"c")
        self._expect("close()", CLOSING)
        try:
            while (message := self._after_begun()).kind != b"c":
                pass
            for line in message.document:
                closing.warn(line)
        except OutsideError as error:
            if error.kind == "timeout":
                closing.give_up(self._task)
            closing.warn(f"warning: {self._task}, close(): {error.what}; its process was ended")
        finally:
            self._process.end(1.0)

    def _after_begun(self) -> Message:
        """The next answer that is no failure of a step or reset that has been begun and that nobody waits for."""
        while True:
            with suppress(BrokenEnvironmentError, CannotDrawError, RaisedError):
                return self._answer()

    def _expect(self, call: str, timeout: float) -> None:
        self._call, self._timeout, self._deadline = call, timeout, time.monotonic() + timeout

    def _answer(self, files: bool = False) -> Message:
        return self._process.answer(self._call, self._deadline, self._timeout, files)


def _spaces(document: dict[str, Any]) -> Spaces:
    return {key: Space.from_json(space) for key, space in document.items()}
