"""Reads the spaces of a task in a separate process, so that the caller imports nothing of the user's environment.

`python -m deploy.wiring.probe TASK ENVIRONMENT SECONDS ANSWER PARENT` makes one environment, writes its spaces, or what
is wrong with it, to the descriptor ANSWER, and ends; it does not outlive the process PARENT.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from tempfile import TemporaryFile
from types import FrameType
from typing import Any, NoReturn

from actors.closing import say_unraisable
from actors.config import EnvironmentConfig
from deploy.wiring.config import RunConfig
from deploy.wiring.task import TaskSpaces, enter, spaces_of
from world_models.dataclass_json import from_json, to_json

PROBE = 300.0  # seconds to import the module of an environment and make one
MARGIN = 10.0  # seconds more for a process that no signal interrupts, and for one that has answered to end


def probe(config: RunConfig, timeout: float = PROBE) -> TaskSpaces:
    """The spaces of the task. ValueError: its environment cannot be made, or not within `timeout` seconds."""
    with TemporaryFile() as answer:
        environment = json.dumps(to_json(config.environment))
        command = [sys.executable, "-P", "-m", "deploy.wiring.probe", config.task, environment]
        process = subprocess.Popen(
            [*command, str(timeout), str(answer.fileno()), str(os.getpid())], pass_fds=[answer.fileno()],
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            code = _wait(process, answer.fileno(), timeout + MARGIN)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        answer.seek(0)
        document: dict[str, Any] = json.loads(answer.read() or b"{}")
    if "error" in document:
        raise ValueError(document["error"])
    if "spaces" not in document:
        raise ValueError(f"Task {config.task!r}: {_ended(code, timeout)} `nexus check-env {config.task}` tells more.")
    return TaskSpaces.from_json(document["spaces"])


def _wait(process: subprocess.Popen[bytes], answer: int, timeout: float) -> int | None:
    """The exit code; None: it has not ended in time, or not soon after its answer."""
    deadline, answered = time.monotonic() + timeout, False
    while (code := process.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
        if not answered and os.fstat(answer).st_size:
            answered, deadline = True, time.monotonic() + MARGIN
    return code


def _ended(code: int | None, timeout: float) -> str:
    if code is None:
        return f"making its environment has taken more than {timeout:g} s and does not respond to signals."
    how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
    return f"the process that made its environment ended with {how}."


def main() -> None:
    """In the process of the environment."""
    task, environment, timeout, answer, parent = sys.argv[1:]
    threading.Thread(target=_do_not_outlive, args=(int(parent),), daemon=True).start()
    sys.unraisablehook = say_unraisable
    signal.signal(signal.SIGALRM, lambda number, frame: _give_up(float(timeout), frame))
    signal.setitimer(signal.ITIMER_REAL, float(timeout))
    enter(os.getcwd())
    config = RunConfig(task=task, environment=from_json(EnvironmentConfig, json.loads(environment)))
    try:
        document: dict[str, Any] = {"spaces": spaces_of(config).to_json()}
    except ValueError as error:
        document = {"error": str(error)}
    signal.setitimer(signal.ITIMER_REAL, 0)
    with os.fdopen(int(answer), "w") as file:
        json.dump(document, file)


def _give_up(timeout: float, frame: FrameType | None) -> NoReturn:
    """At the line that waits, which whoever reports the error names."""
    raise TimeoutError(f"still waiting after {timeout:g} s")


def _do_not_outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    main()
