"""A Redis client that receives into the caller's memory, keeps several requests in flight and comes back by itself."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np

from replay.redis.redis_refusal import (
    UNFIT,
    FullError,
    NotReadyError,
    OutOfMemoryReply,
    ReplyError,
    lacking,
    require_fit,
    unusable,
)
from replay.redis.resp_wire import Arg, Reply, Wire, open_socket
from replay.redis_url import PASSWORD_VARIABLE, Address
from replay.store import ShardDownError

__all__ = ["Connection", "OutOfMemoryReply", "ReplyError", "ShardDownError", "parse_info"]

T = TypeVar("T")
Check = Callable[[Wire, dict[str, str], str], None]
"""What is asked of a server over a wire, knowing its INFO and the key, if any, that it refused to work on before."""
OLDEST = (6, 2)
WINDOW = 1 << 20  # more is no faster, and the server builds its replies in memory it has to fetch first
_FEWEST = 2  # requests in flight, whatever their size
FIRST = 5.0  # seconds for a server that nobody has reached yet: its address may be wrong
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0
_PROBE = 1.0  # seconds for a server that has been given up


class _LookAgainError(ConnectionError):
    """The server refuses what it should not; the next connection's check tells why."""


class Connection:
    """One server. Every command must be idempotent, since a lost connection is made again and what had no answer is
    sent again: for `patience` seconds, with growing pauses; then ShardDownError, and from there on each call tries
    once until the server is back. `timeout` is how many seconds the server may stay silent. A server that nobody has
    reached yet is waited for no longer than FIRST seconds, unless it says that it is about to be ready; `known`:
    somebody has, before this connection was made.

    Errors: ReplyError and OutOfMemoryReply for what the server refuses; ValueError, without a retry, for a wrong
    password, a server that is not Redis, older than 6.2, one that evicts by itself or is part of a Redis Cluster, and
    what `check` raises of this kind at every connection. From a known server these may be mended: they are waited for,
    too, and end in ShardDownError. One thread at a time talks to the server, the others wait. An interrupted exchange
    closes the connection.
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
                f"timeout is {timeout}, patience {patience}: allowed are more than 0 and 0 or more seconds."
            )
        self.address, self.label, self.timeout, self.patience = address, address.label, timeout, patience
        self.epoch = 0
        """How often the server was found restarted: what it held may be older than what it had answered."""
        self.known = known
        """The server was fit for work once, so that whatever is wrong with it now may be mended."""
        self._check, self._note = check, note
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._run_id = ""
        self._lost = 0.0  # since when the server does not answer
        self._said: set[str] = set()  # of what is wrong with it, since then
        self._suspect = ""  # the key that it refused to work on
        self._given_up = False
        self._closed = threading.Event()

    def call(self, *args: Arg) -> Reply:
        reply = self.pipeline([args])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Sequence[Arg]]) -> list[Reply | ReplyError]:
        """All commands are sent, then all replies read. Refusals stand in the list as exceptions."""

        def exchange(wire: Wire) -> list[Reply | ReplyError]:
            wire.send(commands)
            replies = [wire.reply() for _ in commands]
            self._require_fit(replies)
            return replies

        if not commands:
            return []
        first = commands[0][0]
        return self._insist(exchange, first.decode() if isinstance(first, bytes) else str(first))

    def get_ranges(self, requests: Sequence[tuple[bytes | str, int, memoryview]], window: int = WINDOW) -> np.ndarray:
        """GETRANGE of `len(out)` bytes from `start` of `key` for each (key, start, out), received in `out` itself.

        Returns the bytes received int64 `[n]`: fewer where the value ends, 0 where there is none, -1 where it is not a
        string. About `window` bytes are asked for ahead. After a lost connection it goes on with the first range that
        is not complete: where `epoch` went up in between, what came before and after need not fit together.
        """
        lengths = np.zeros(len(requests), np.int64)
        done = 0

        def exchange(wire: Wire) -> None:
            nonlocal done
            sent, ahead, n = done, 0, len(requests)
            for i in range(done, n):
                if sent < n and (ahead <= window // 2 or sent < i + _FEWEST):
                    commands = []
                    while sent < n and (ahead < window or sent < i + _FEWEST):
                        name, start, room = requests[sent]
                        assert room.itemsize == 1, f"ranges are received in bytes, got a memoryview of {room.format}"
                        commands.append(_getrange(name, start, len(room)))
                        ahead += len(room)
                        sent += 1
                    wire.send_bytes(b"".join(commands))
                out = requests[i][2]
                try:
                    lengths[i] = wire.bulk_into(out)
                except ReplyError as error:
                    if error.kind != "WRONGTYPE":
                        self._require_fit([error])
                        raise
                    lengths[i] = -1
                ahead -= len(out)
                done = i + 1

        self._insist(exchange, "GETRANGE")
        return lengths

    def close(self) -> None:
        """Ends the connection for good; a thread that waits for the server gets ShardDownError."""
        self._closed.set()
        wire = self._wire
        if wire is not None:
            wire.hang_up()
        with self._lock:
            self._drop()

    def _insist(self, exchange: Callable[[Wire], T], what: str) -> T:
        """`exchange`, over new connections until it comes to its end."""
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

    def _repeat(self, exchange: Callable[[Wire], T], what: str) -> T:
        failed, delay = 0.0, _FIRST_DELAY
        while True:
            if self._closed.is_set():
                raise ShardDownError(f"The connection to Redis {self.label} was closed.")
            try:
                return exchange(self._wire or self._connect())
            except (OSError, ValueError, NotReadyError) as error:
                self._drop()
                if isinstance(error, ValueError) and not self.known:
                    raise
                now = time.monotonic()
                failed = failed or now
                there = isinstance(error, ValueError | NotReadyError)  # and says what is wrong
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
                        f"{said.rstrip('.')}. Is it running, and is the address right (rediss:// where it wants TLS)?"
                    ) from error  # fmt: skip
                self._closed.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    def _require_fit(self, replies: Sequence[Reply | ReplyError]) -> None:
        """Raises where what the server refuses is a reason to look anew whether it will do."""
        for reply in replies:
            if isinstance(reply, ReplyError):
                if reply.kind in UNFIT and self._check:
                    self._suspect = reply.key if reply.kind == "WRONGTYPE" else self._suspect
                    raise _LookAgainError(f"it refuses what it is asked: {reply}")
                require_fit(reply, self.label)

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _connect(self) -> Wire:
        timeout = min(self.timeout, _PROBE) if self._given_up else self.timeout
        wire = Wire(open_socket(self.address, timeout), self.label, timeout)
        try:
            info = greet(wire, self.address)
            if self._check:
                self._check(wire, info, self._suspect)
            wire.set_timeout(self.timeout)
        except BaseException:
            wire.close()
            raise
        run_id = info.get("run_id", "")
        restarted = bool(self._run_id) and run_id != self._run_id
        if self._lost:
            after = f" after {time.monotonic() - self._lost:.1f} s" + (", restarted" if restarted else "")
            self._note(f"Redis {self.label} answers again{after}.")
        self._said.clear()
        self.epoch += restarted
        self._run_id, self._wire, self._lost, self._given_up, self.known = run_id, wire, 0.0, False, True
        return wire


def greet(wire: Wire, address: Address) -> dict[str, str]:
    """Logs in, checks that the server is one we can work with, and returns its INFO; nothing where the user may not ask
    for it, which is then said with what else he may not do (replay/redis/redis_rights.py)."""
    login = ["AUTH", *filter(None, [address.username]), address.password] if address.password else ["PING"]
    select = [("SELECT", address.database)] if address.database else []  # 0 it is already, and SELECT may be forbidden
    with suppress(ConnectionError):  # it may have hung up already, and said why
        wire.send([login, ("CLIENT", "SETNAME", "nexus"), *select, ("INFO",)])
    logged_in, _, *selected, text = (_welcome(wire.reply(), address) for _ in range(3 + len(select)))
    if isinstance(logged_in, ReplyError) and address.password:
        if "without any password" in str(logged_in):
            raise ValueError(f"Redis {address.label} has no password, one is given; leave it out or set requirepass.")
        user = address.username or "default"
        raise ValueError(
            f"Redis {address.label} does not let user {user} in ({logged_in}): it knows no such user, has disabled it, "
            f"or the password is wrong; see redis-cli ACL GETUSER {user}, and correct the URL or {PASSWORD_VARIABLE}."
        )
    replies = {"SELECT": selected[0], "INFO": text} if selected else {"INFO": text}
    refused = {command: reply for command, reply in replies.items() if isinstance(reply, ReplyError)}
    for command, reply in refused.items():
        if reply.code == "NOAUTH":
            raise ValueError(f"Redis {address.label} wants a password: put it in the URL or set {PASSWORD_VARIABLE}.")
        require_fit(reply, address.label)
        if reply.kind not in ("NOPERM", "UNKNOWN"):
            remedy = f"; there is no database {address.database}, take another" if command == "SELECT" else ""
            raise ValueError(f"Redis {address.label} refuses {command} ({reply}){remedy}.")
    if "SELECT" in refused:  # what else is missing cannot be seen from another database
        forbidden, unknown = ([c for c in refused if refused[c].kind == kind] for kind in ("NOPERM", "UNKNOWN"))
        raise unusable(address.label, lacking(address.username, forbidden, unknown))
    if refused:
        return {}
    assert isinstance(text, bytes), f"INFO gave {text!r}"
    info = parse_info(text)
    if info.get("loading", "0") != "0":
        raise NotReadyError(f"Redis {address.label} is still loading its data.")
    version = info.get("redis_version", "unknown")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        raise ValueError(f"Redis {address.label} is version {version}; use {'.'.join(map(str, OLDEST))} or newer.")
    if info.get("redis_mode") == "cluster":
        raise ValueError(
            f"Redis {address.label} is part of a Redis Cluster; give servers that stand alone, one URL each."
        )
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        raise ValueError(
            f"Redis {address.label} has maxmemory-policy {policy} and would drop parts of the replay unseen; only "
            "noeviction is allowed: redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf."
        )
    return info


def _welcome(reply: Reply | ReplyError, address: Address) -> Reply | ReplyError:
    """The reply, unless it is what Redis says unasked before it hangs up."""
    if isinstance(reply, ReplyError):
        if "max number of clients" in str(reply):
            raise FullError(
                f"Redis {address.label} has its maxclients connected already ({reply}); end some of them, or raise "
                "maxclients in its redis.conf and restart it."
            )
        if reply.code == "DENIED":
            raise ValueError(f"Redis {address.label} lets nobody in from outside: {reply}")
    return reply


def parse_info(text: bytes) -> dict[str, str]:
    """The fields of an INFO reply."""
    lines = text.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _getrange(key: bytes | str, start: int, n: int) -> bytes:
    name = key.encode() if isinstance(key, str) else key
    first, last = (b"%d" % start, b"%d" % (start + n - 1)) if n else (b"1", b"0")
    return b"*4\r\n$8\r\nGETRANGE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(name), name, len(first), first, len(last), last,
    )  # fmt: skip
