"""Requests to a run in progress, as files in the `control` folder of its directory.

A request is `ID.request`, JSON, complete or absent. The run takes it away and leaves its answer as `ID.answer`. This
works wherever the directory is visible and needs no port; the folder is its owner's alone (mode 0700).
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.stored.run_status import read_status
from deploy.wiring.claim import LOCK
from deploy.wiring.config import load_config
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import RUN_CONFIG

FOLDER = "control"
REQUEST, ANSWER = ".request", ".answer"
POLL = 0.1  # seconds between looks for the answer
LARGEST = 1 << 16  # bytes of a request


class RunUnreachableError(ValueError):
    """No run is active in a directory, or it does not answer."""


class Unreadable(str):
    """In place of a request that was not read: why."""


class ControlFolder:
    """The run's side. Requests from before it began are dropped: they were meant for an earlier life."""

    def __init__(self, logdir: Path):
        self._folder = logdir / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._folder.chmod(0o700)
        for file in [*self._folder.glob(f"*{REQUEST}"), *self._folder.glob(f"*{ANSWER}")]:
            file.unlink(missing_ok=True)

    def take(self) -> list[tuple[str, Any]]:
        """New requests with their ids, oldest first; `Unreadable` for one that was not read."""
        taken = []
        with suppress(OSError):  # the directory is away for a moment
            for file in sorted(self._folder.glob(f"[!.]*{REQUEST}")):  # one with a dot is still being written
                with suppress(FileNotFoundError):  # withdrawn
                    taken.append((file.stem, self._read(file)))
        return taken

    def _read(self, file: Path) -> Any:
        about = file.stat()
        if about.st_uid not in (os.getuid(), 0):
            file.unlink()
            return Unreadable("belongs to another user: only the one who runs it, and root, may steer this run")
        if about.st_size > LARGEST:
            file.unlink()
            return Unreadable(f"is larger than {LARGEST >> 10} KB")
        text = file.read_text(errors="replace")
        file.unlink()
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return Unreadable("is not JSON")

    def answer(self, name: str, answer: Mapping[str, Any]) -> None:
        """Leave the answer to request `name`."""
        with suppress(OSError), whole_file(self._folder / f"{name}{ANSWER}") as fresh:
            fresh.write_text(json.dumps(answer))


def new_request_name() -> str:
    """A name for a request; names sort by time."""
    return f"{time.time_ns():020}-{secrets.token_hex(4)}"


class RunDirectory:
    """A run in progress, steered through its directory."""

    def __init__(self, logdir: Path):
        self.logdir, self.name = logdir, str(logdir)

    def status(self) -> dict[str, Any]:
        """What `status.json` says; empty if there is none."""
        return read_status(self.logdir)

    def active(self) -> bool:
        """Whether the run is still there."""
        return active(self.logdir)

    def ask(
        self, request: Mapping[str, Any], timeout: float = 60.0, waiting: Callable[[float], None] | None = None
    ) -> dict[str, Any]:
        """See `ask`."""
        return ask(self.logdir, request, timeout, waiting)


def ask(
    logdir: Path, request: Mapping[str, Any], timeout: float = 60.0, waiting: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Send a request to the run in `logdir` and wait for its answer. `waiting` is called with the seconds waited.

    Raises RunUnreachableError if no run is active there, or there is no answer within `timeout` seconds; the request is
    withdrawn then, unless the run has begun to carry it out. ValueError: the run refuses it.
    """
    require_active(logdir)
    folder, name = logdir / FOLDER, new_request_name()
    path, answer = folder / f"{name}{REQUEST}", folder / f"{name}{ANSWER}"
    begun = time.monotonic()
    try:
        with whole_file(path) as fresh:
            fresh.write_text(json.dumps(request))
    except OSError as error:
        raise RunUnreachableError(f"No request can be left in {folder}: {error.strerror}.") from error
    while True:
        with suppress(FileNotFoundError):
            reply: dict[str, Any] = json.loads(answer.read_text())
            answer.unlink(missing_ok=True)
            if "error" in reply:
                raise ValueError(reply["error"])
            return reply
        waited = time.monotonic() - begun
        if waited > timeout or not active(logdir):
            why = f"has not answered within {timeout:g} s" if active(logdir) else "has ended"
            raise RunUnreachableError(f"The run in {logdir} {why}{_withdraw(path, logdir)}")
        if waiting:
            waiting(waited)
        time.sleep(POLL)


def _withdraw(path: Path, logdir: Path) -> str:
    state = read_status(logdir).get("state", "unknown")
    try:
        path.unlink()
    except FileNotFoundError:
        return f"; it is still carrying out the request (state: {state})."
    return f" (state: {state}); the request is withdrawn."


def active(logdir: Path) -> bool:
    """Whether a process holds this run directory."""
    try:
        with open(logdir / LOCK, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:  # or a FIFO
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def require_active(logdir: Path) -> None:
    """ValueError: this is no run directory; RunUnreachableError: nothing there takes requests."""
    there = (logdir / RUN_CONFIG).exists()
    if not active(logdir):
        load_config(logdir)
        raise RunUnreachableError(f"No run is active in {logdir}; `nexus train` continues it.")
    if there and load_config(logdir).mode == "inline":  # a run that has just begun has none yet
        raise RunUnreachableError(f"The run in {logdir} is in inline mode, which takes no requests; Ctrl-C stops it.")
