"""The process of one environment as its owner sees it: asked with a time limit, watched, and ended."""

import fcntl
import os
import re
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any, NamedTuple

import psutil

from actors.environment import CannotDrawError
from actors.faults import BrokenEnvironmentError, OutsideError, is_theirs
from actors.isolation.fork_server import ForkServer
from actors.isolation.isolated_channel import Channel, ClosedError, Message

LOOK = 0.25  # seconds between looks at its memory and output
TAIL = 4096  # bytes of output kept for a report
MOST = 1 << 20  # bytes of output after which all but the tail is dropped
ANSWERING = 1.0  # seconds for a process that is lost to end by itself, or to say where it hangs


class Limits(NamedTuple):
    """Seconds for a step; seconds for a reset and for making the environment; GB of memory, 0 for any."""

    step: float
    reset: float
    gigabytes: float = 0.0


class EnvironmentProcess:
    """Forked from `server`. Its output is not shown; the last lines are part of what its errors tell."""

    def __init__(self, server: ForkServer, document: dict[str, Any], limits: Limits) -> None:
        self.server, self.limits = server, limits
        self.output = os.memfd_create("nexus-environment-output")
        self.channel: Channel | None = None
        self.ended = False
        self._looked = 0.0
        try:
            fcntl.fcntl(self.output, fcntl.F_SETFL, os.O_APPEND)
            own, other = socket.socketpair()
            self.channel = Channel(own)
            with other:
                self.number = server.fork(document, [other.fileno(), self.output], limits.reset)
        except BaseException:
            self._release()
            raise
        self._ready = select.poll()
        self._ready.register(own, select.POLLIN)
        self._memory = psutil.Process(self.number) if limits.gigabytes else None

    def ask(self, kind: bytes, document: Any = None) -> None:
        """Send a command; if nobody receives it, `answer` says why."""
        if self.channel is not None:
            with suppress(ClosedError):
                self.channel.send(kind, document)

    def answer(self, call: str, deadline: float, timeout: float, files: bool = False) -> Message:
        """The answer to a command. OutsideError: it has failed in or with its process, which is ended unless it has
        answered. BrokenEnvironmentError, CannotDrawError: those of the environment."""
        if self.channel is None:
            raise OutsideError("crash", f"{call} was called after its process had ended", "Make a new environment.")
        while not self._ready.poll(1000 * max(0.0, min(LOOK, deadline - time.monotonic()))):
            self._look()
            if time.monotonic() >= deadline:
                raise self._late(call, timeout)
        try:
            message = self.channel.receive(deadline + ANSWERING, files)
        except ClosedError:
            raise self._crashed() from None
        except TimeoutError:
            raise self._late(call, timeout) from None
        if time.monotonic() - self._looked > LOOK:
            self._look()
        if message.kind == b"f":
            raise self._failed(message.document)
        return message

    def end(self, patience: float = 0.0) -> int | None:
        """Its exit code; it is killed unless it ends within `patience` seconds."""
        if self.ended:
            return None
        self.ended = True
        code = self.server.end(self.number, patience)
        self._release()
        return code

    def _release(self) -> None:
        if self.channel is not None:
            self.channel.close()
        os.close(self.output)
        self.channel = None

    def _look(self) -> None:
        """At its memory, and at the length of its output."""
        self._looked = time.monotonic()
        size = os.fstat(self.output).st_size
        if size > MOST:
            kept = os.pread(self.output, TAIL, size - TAIL)
            os.ftruncate(self.output, 0)
            os.write(self.output, kept)
        if self._memory is None:
            return
        with suppress(psutil.Error):  # it has just ended
            used = self._memory.memory_info().rss / 1e9
            if used > self.limits.gigabytes:
                said = self._said()
                self.end()
                raise OutsideError(
                    "memory", f"its process grew to {used:.2f} GB, actor.environment_gb allows "
                    f"{self.limits.gigabytes:g}", "Correct the leak, or raise the limit.", details=said,
                )  # fmt: skip

    def _said(self) -> str:
        """The last lines of its output."""
        size = os.fstat(self.output).st_size
        text = os.pread(self.output, TAIL, max(0, size - TAIL)).decode(errors="replace")
        return text if size <= TAIL else "...\n" + text.partition("\n")[2]

    def _late(self, call: str, timeout: float) -> OutsideError:
        said = self._said()
        with suppress(ProcessLookupError):
            os.kill(self.number, signal.SIGUSR1)  # its faulthandler writes where it is
        deadline = time.monotonic() + ANSWERING
        while (now := self._said()) == said and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.01)  # for the rest of it
        where, now = now[len(said) :] if now.startswith(said) else now, self._said()
        self.end()
        field = "reset_timeout" if call != "step()" else "step_timeout"
        remedy = f"Correct what it waits for, or raise actor.{field}."
        return OutsideError("timeout", f"{call} did not return within {timeout:g} s", remedy, _place(where), now)

    def _crashed(self) -> OutsideError:
        said, code = self._said(), self.end(ANSWERING)
        return OutsideError(
            "crash", f"its process {ending(code)}", "Correct what ends it; nexus train shows its last output in "
            "RUN/faults.", details=said,
        )  # fmt: skip

    def _failed(self, failure: dict[str, Any]) -> Exception:
        details = failure["details"] + (f"Its last output:\n{said}" if (said := self._said()) else "")
        if "broken" in failure:
            return BrokenEnvironmentError(**failure["broken"], details=details)
        if "drawing" in failure:
            return CannotDrawError(failure["drawing"])
        return RaisedError(failure["raised"], failure["place"], failure.get("value", ""), details)


class RaisedError(OutsideError):
    """An environment has raised an error in its process; `value`: the text of a ValueError."""

    def __init__(self, raised: str, place: str, value: str, details: str) -> None:
        super().__init__(
            "exception", f"raised {raised}", "Correct that line, or the value it was given.", place, details
        )
        self.value = value


def ending(code: int | None) -> str:
    """How a process ended, in words that follow its name."""
    if code is None:
        return "ended with that of its worker's other environments"
    if code >= 0:
        return f"ended with exit code {code}"
    memory = "; perhaps the machine ran out of memory" if code == -signal.SIGKILL else ""
    return f"crashed with signal {-code} ({signal.Signals(-code).name}){memory}"


def _place(dump: str) -> str:
    """The innermost line of a faulthandler's dump that is neither ours nor a library's."""
    current = dump.partition("Current thread")[2] or dump
    for file, line, name in re.findall(r'File "(.+?)", line (\d+) in (.+)', current):
        if is_theirs(file):
            return f"{file}, line {line}, in {name}"
    return ""
