"""Reads the spaces of a task in a separate process, so that the caller imports nothing of the user's environment.

`python -m deploy.wiring.probe TASK ENVIRONMENT SECONDS ANSWER PARENT` makes one environment and writes its spaces, or
what is wrong with it, to the descriptor ANSWER; then it closes the environment, writes CLOSED, and ends. It does not
outlive the process PARENT.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from types import FrameType
from typing import Any, NoReturn

from actors.closing import say_unraisable
from actors.config import EnvironmentConfig
from actors.faults import place_of
from deploy.exit_codes import FAILED
from deploy.wiring.config import RunConfig
from deploy.wiring.task import FirstEnvironment, TaskSpaces, enter
from world_models.dataclass_json import from_json, to_json

PROBE = 300.0  # seconds to import the module of an environment and make one
MARGIN = 10.0  # seconds more for a process that no signal interrupts, and for one that has answered to end
CLOSED = "closed"


class _LateError(BaseException):
    """Not an Exception, so that an environment that swallows its own errors does not swallow this one."""


def probe(config: RunConfig, timeout: float = PROBE) -> TaskSpaces:
    """The spaces of the task. ValueError: its environment cannot be made, or not within `timeout` seconds.

    One that cannot be closed is only warned of: its process is killed `MARGIN` seconds after its answer.
    """
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
        lines = answer.read().decode().splitlines()
    document: dict[str, Any] = json.loads(lines[0]) if lines else {}
    if "error" in document:
        raise ValueError(document["error"])
    if "spaces" not in document:
        raise ValueError(
            f"Task {config.task!r}: {_unanswered(code, timeout)} `nexus check-env {config.task}` tells more."
        )
    if CLOSED not in lines:
        how = f"did not return within {MARGIN:g} s; its process was killed" if code is None else f"ended {_how(code)}"
        print(f"warning: {config.task}, close() after its spaces were read: {how}", file=sys.stderr)
    return TaskSpaces.from_json(document["spaces"])


def _wait(process: subprocess.Popen[bytes], answer: int, timeout: float) -> int | None:
    """The exit code; None: it has not ended in time, or not soon after its answer."""
    deadline, answered = time.monotonic() + timeout, False
    while (code := process.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
        if not answered and os.fstat(answer).st_size:
            answered, deadline = True, time.monotonic() + MARGIN
    return code


def _unanswered(code: int | None, timeout: float) -> str:
    if code is None:
        return f"making its environment has taken more than {timeout:g} s and does not respond to signals."
    return f"the process that made its environment ended {_how(code)}."


def _how(code: int) -> str:
    return f"with signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"


def main() -> None:
    """In the process of the environment."""
    task, environment, timeout, answer, parent = sys.argv[1:]
    threading.Thread(target=_do_not_outlive, args=(int(parent),), daemon=True).start()
    sys.unraisablehook = say_unraisable
    config = RunConfig(task=task, environment=from_json(EnvironmentConfig, json.loads(environment)))
    first: FirstEnvironment | None = None
    try:
        with _limited(float(timeout)):
            enter(os.getcwd())
            first = FirstEnvironment(config)
        document: dict[str, Any] = {"spaces": first.spaces.to_json()}
    except ValueError as error:
        document = {"error": str(error)}
    except _LateError as late:
        place = place_of(late)
        where = f"{place}: " if place else ""
        what = f"TimeoutError: still waiting after {float(timeout):g} s. Correct that line, or what it depends on."
        document = {"error": f"Task {task!r} cannot be made: {where}{what}"}
    with os.fdopen(int(answer), "w") as file:
        print(json.dumps(document), file=file, flush=True)  # before closing, which may hang
        if first is not None:
            first.close()
        print(CLOSED, file=file)


@contextmanager
def _limited(timeout: float) -> Iterator[None]:
    """Raises _LateError after `timeout` seconds, at the line that waits."""

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise _LateError

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _do_not_outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(FAILED)


if __name__ == "__main__":
    main()
