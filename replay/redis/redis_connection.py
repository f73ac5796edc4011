"""A Redis client that reconnects automatically."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from replay.redis.redis_ranges import Request
from replay.redis.redis_refusal import UNFIT, FullError, NotReadyError, OutOfMemoryReply, ReplyError, require_fit
from replay.redis.redis_server import require_supported
from replay.redis.redis_session import Arg, Reply, Session
from replay.redis_url import Address
from replay.store import ShardDownError

__all__ = ["Connection", "OutOfMemoryReply", "ReplyError", "ShardDownError"]

T = TypeVar("T")
Check = Callable[[Session, dict[str, str], str], None]
"""Checks a server in a session, given its INFO and the key, if any, that it refused to work on before."""
WINDOW = 1 << 20  # more is not faster: the server would have to allocate memory for its replies
FIRST = 5.0  # seconds for a server that was never reached: its address may be wrong
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0
_PROBE = 1.0  # seconds for a server that was given up


class _LookAgainError(ConnectionError):
    """The server refuses what it should not; the check of the next connection finds out why."""


class Connection:
    """One server. If the connection is lost, it is reopened and unanswered commands are sent again, so every command
    must be idempotent. Retries go on for `patience` seconds, with growing pauses; then ShardDownError, and after that
    each call tries once until the server is back. (redis-py's own retries count attempts, and close() could not wake
    them.) `timeout`: seconds that the server may stay silent, unless its URL sets them. A server that was never reached
    is retried for at most FIRST seconds, unless it reports that it will be ready soon; `known`: it was reached before
    this connection was made.

    Errors: ReplyError and OutOfMemoryReply if the server refuses a command; ValueError, without a retry, for a wrong
    password, a server that is not Redis, is older than 6.2, evicts keys or is part of a Redis Cluster, and the
    ValueErrors of `check`, which is called for every connection. On a known server these may be fixed: they are
    retried, too, and end in ShardDownError. One thread at a time uses the connection, the others wait. An interrupted
    exchange closes it.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 10.0,
        patience: float = 60.0,
        known: bool = False,
        check: Check | None = None,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        if timeout <= 0 or patience < 0:
            raise ValueError(
                f"timeout is {timeout}, patience {patience}; allowed are more than 0 and 0 or more seconds."
            )
        self.address, self.label, self.patience = address, address.label, patience
        self.timeout = float(address.options.get("socket_timeout", timeout))
        self.epoch = 0
        """How many restarts of the server were noticed: each may have lost the newest writes that it had confirmed."""
        self.known = known
        """The server was usable before, so whatever is wrong with it now may be fixed."""
        self._check, self._note = check, note
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._run_id = ""
        self._lost = 0.0  # since when the server has not answered; 0 if it does
        self._said: set[str] = set()  # problems reported since then
        self._suspect = ""  # the key that it refused to work on
        self._given_up = False
        self._closed = threading.Event()

    def call(self, *args: Arg) -> Reply:
        reply = self.pipeline([args])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Sequence[Arg]]) -> list[Reply | ReplyError]:
        """Send all commands, then read all replies. Errors are in the list as exceptions."""

        def exchange(session: Session) -> list[Reply | ReplyError]:
            replies = session.ask(commands)
            self._require_fit(replies)
            return replies

        if not commands:
            return []
        first = commands[0][0]
        return self._insist(exchange, first.decode() if isinstance(first, bytes) else str(first))

    def get_ranges(self, requests: Sequence[Request], window: int = WINDOW) -> np.ndarray:
        """GETRANGE of `len(out)` bytes from `start` of `key` for each (key, start, out), received directly into `out`.

        Returns the bytes received int64 `[n]`: fewer if the value ends, 0 if there is none, -1 if it is not a string.
        About `window` bytes are requested ahead. After a lost connection it resumes with the first incomplete range: if
        `epoch` increased meanwhile, the ranges before and after may be inconsistent.
        """
        lengths = np.zeros(len(requests), np.int64)
        done = 0

        def exchange(session: Session) -> None:
            nonlocal done
            for reply in session.ranges(requests[done:], window):
                if isinstance(reply, ReplyError):
                    if reply.kind != "WRONGTYPE":
                        self._require_fit([reply])
                        raise reply
                    reply = -1
                lengths[done] = reply
                done += 1

        self._insist(exchange, "GETRANGE")
        return lengths

    def close(self) -> None:
        """Close the connection for good; a thread that waits for the server gets ShardDownError."""
        self._closed.set()
        session = self._session
        if session is not None:
            session.hang_up()
        with self._lock:
            self._drop()

    def _insist(self, exchange: Callable[[Session], T], what: str) -> T:
        """Repeat `exchange`, over new connections, until it succeeds."""
        wait = self.patience + 2 * self.timeout
        if not self._lock.acquire(timeout=wait):
            raise TimeoutError(f"{what} waited {wait:g} s for another thread's exchange with Redis {self.label}.")
        try:
            return self._repeat(exchange, what)
        except BaseException:
            self._drop()  # unread replies of an interrupted exchange must not answer the next one
            raise
        finally:
            self._lock.release()

    def _repeat(self, exchange: Callable[[Session], T], what: str) -> T:
        failed, delay = 0.0, _FIRST_DELAY
        while True:
            if self._closed.is_set():
                raise ShardDownError(f"The connection to Redis {self.label} was closed.")
            try:
                return exchange(self._session or self._connect())
            except (OSError, ValueError, NotReadyError) as error:
                self._drop()
                if isinstance(error, ValueError) and not self.known:
                    raise
                now = time.monotonic()
                failed = failed or now
                there = isinstance(error, ValueError | NotReadyError)  # and reports what is wrong
                passes = there and not isinstance(error, FullError)
                patience = self.patience if self.known or passes else min(FIRST, self.patience)
                said = str(error) if there else (getattr(error, "strerror", "") or str(error) or type(error).__name__)
                if (there and said not in self._said) or not (self._lost or isinstance(error, _LookAgainError)):
                    self._lost = self._lost or now
                    self._said.add(said)
                    self._note(
                        f"{said} Trying again for {patience:g} s." if there
                        else f"Redis {self.label}: {said.rstrip('.')}; trying again for {patience:g} s."
                    )  # fmt: skip
                if self._given_up or now + delay > failed + patience:
                    self._given_up = True
                    away = now - (self._lost or failed)
                    raise ShardDownError(
                        said if there
                        else f"Redis {self.label} has not answered {what} for {away:.0f} s; the last error: "
                        f"{said.rstrip('.')}. Is it running, and is the address right (rediss:// if it requires TLS)?"
                    ) from error  # fmt: skip
                self._closed.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    def _require_fit(self, replies: Sequence[Reply | ReplyError]) -> None:
        """Raises if a refusal is a reason to check again whether the server is usable."""
        for reply in replies:
            if isinstance(reply, ReplyError):
                if reply.kind in UNFIT and self._check:
                    self._suspect = reply.key if reply.kind == "WRONGTYPE" else self._suspect
                    raise _LookAgainError(f"it refuses a command: {reply}")
                require_fit(reply, self.label)

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _connect(self) -> Session:
        """A new session, which close() can hang up from its beginning; the caller drops it after an error."""
        session = Session(self.address, min(self.timeout, _PROBE) if self._given_up else self.timeout)
        self._session = session
        if self._closed.is_set():
            raise ConnectionAbortedError("the connection was closed")
        session.open()
        info = require_supported(session)
        if self._check:
            self._check(session, info, self._suspect)
        session.set_timeout(self.timeout)
        run_id = info.get("run_id", "")
        restarted = bool(self._run_id) and run_id != self._run_id
        if self._lost:
            after = f" after {time.monotonic() - self._lost:.1f} s" + (", restarted" if restarted else "")
            self._note(f"Redis {self.label} answers again{after}.")
        self._said.clear()
        self.epoch += restarted
        self._run_id, self._lost, self._given_up, self.known = run_id, 0.0, False, True
        return session
