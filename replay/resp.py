"""A Redis client that receives into the caller's memory, keeps several requests in flight and comes back by itself."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from replay.redis_url import PASSWORD_VARIABLE, Address
from replay.resp_wire import Arg, OutOfMemoryReply, Reply, ReplyError, Wire, open_socket
from replay.store import ShardDownError

__all__ = ["Connection", "OutOfMemoryReply", "ReplyError", "ShardDownError", "parse_info"]

T = TypeVar("T")
OLDEST = (6, 2)
WINDOW = 1 << 20  # more is no faster, and the server builds its replies in memory it has to fetch first
_FEWEST = 2  # requests in flight, whatever their size
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0
_PROBE = 1.0  # seconds for a server that has been given up


class Connection:
    """One server. Every command must be idempotent, since a lost connection is made again and what had no answer is
    sent again: for `patience` seconds, with growing pauses; then ShardDownError, and from there on each call tries
    once until the server is back. `timeout` is how many seconds the server may stay silent.

    Errors: ReplyError and OutOfMemoryReply for what the server refuses; ValueError, without a retry, for a wrong
    password, a server that is not Redis, older than 6.2, one that evicts by itself or is part of a Redis Cluster.
    One thread at a time talks to the server, the others wait. An interrupted exchange closes the connection.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 10.0,
        patience: float = 60.0,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        if timeout <= 0 or patience < 0:
            raise ValueError(
                f"timeout is {timeout}, patience {patience}: allowed are more than 0 and 0 or more seconds."
            )
        self.address, self.label, self.timeout, self.patience = address, address.label, timeout, patience
        self.epoch = 0
        """How often the server was found restarted: what it held may be older than what it had answered."""
        self._note = note
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._run_id = ""
        self._lost = 0.0  # since when the server does not answer
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
            return [wire.reply() for _ in commands]

        if not commands:
            return []
        first = commands[0][0]
        return self._insist(exchange, first.decode() if isinstance(first, bytes) else str(first))

    def get_ranges(self, requests: Sequence[tuple[bytes | str, int, memoryview]], window: int = WINDOW) -> np.ndarray:
        """GETRANGE of `len(out)` bytes from `start` of `key` for each (key, start, out), received in `out` itself.

        Returns the bytes received int64 `[n]`: fewer where the value ends, 0 where there is none. About `window` bytes
        are asked for ahead. After a lost connection it goes on with the first range that is not complete: where
        `epoch` went up in between, what came before and after need not fit together.
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
                        key, start, out = requests[sent]
                        assert out.itemsize == 1, f"ranges are received in bytes, got a memoryview of {out.format}"
                        commands.append(_getrange(key, start, len(out)))
                        ahead += len(out)
                        sent += 1
                    wire.send_bytes(b"".join(commands))
                out = requests[i][2]
                lengths[i] = wire.bulk_into(out)
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
            except OSError as error:
                self._drop()
                now = time.monotonic()
                failed = failed or now
                said = (error.strerror or str(error) or type(error).__name__).rstrip(".")
                if not self._lost:
                    self._lost = now
                    self._note(f"Redis {self.label}: {said}; trying again for {self.patience:g} s.")
                if self._given_up or now + delay > failed + self.patience:
                    self._given_up = True
                    raise ShardDownError(
                        f"Redis {self.label} has not answered {what} for {now - self._lost:.0f} s, at last: {said}. "
                        "Is it running, and is the address right (rediss:// where it wants TLS)?"
                    ) from error
                self._closed.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _connect(self) -> Wire:
        timeout = min(self.timeout, _PROBE) if self._given_up else self.timeout
        wire = Wire(open_socket(self.address, timeout), self.label, timeout)
        try:
            run_id = greet(wire, self.address)
            wire.set_timeout(self.timeout)
        except BaseException:
            wire.close()
            raise
        restarted = bool(self._run_id) and run_id != self._run_id
        if self._lost:
            after = f" after {time.monotonic() - self._lost:.1f} s" + (", restarted" if restarted else "")
            self._note(f"Redis {self.label} answers again{after}.")
        self.epoch += restarted
        self._run_id, self._wire, self._lost, self._given_up = run_id, wire, 0.0, False
        return wire


def greet(wire: Wire, address: Address) -> str:
    """Logs in, checks that the server is one we can work with, and returns the id of its run."""
    login = ["AUTH", *filter(None, [address.username]), address.password] if address.password else ["PING"]
    wire.send([login, ("CLIENT", "SETNAME", "nexus"), ("SELECT", address.database), ("INFO",)])
    logged_in, _, selected, text = (_welcome(wire.reply(), address) for _ in range(4))
    if isinstance(logged_in, ReplyError) and address.password:
        if "without any password" in str(logged_in):
            raise ValueError(f"Redis {address.label} has no password, one is given; leave it out or set requirepass.")
        raise ValueError(f"Redis {address.label} refuses the password ({logged_in}); correct it.")
    if isinstance(text, ReplyError):
        if text.code == "NOAUTH":
            raise ValueError(f"Redis {address.label} wants a password: put it in the URL or set {PASSWORD_VARIABLE}.")
        raise ValueError(f"Redis {address.label} refuses INFO ({text}); allow this user INFO.")
    if isinstance(selected, ReplyError):
        raise ValueError(f"Redis {address.label} has no database {address.database} ({selected}); take another.")
    assert isinstance(text, bytes), f"INFO gave {text!r}"
    info = parse_info(text)
    if info.get("loading", "0") != "0":
        raise ConnectionError("it is still loading its data")
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
    return info.get("run_id", "")


def _welcome(reply: Reply | ReplyError, address: Address) -> Reply | ReplyError:
    """The reply, unless it is what Redis says unasked before it hangs up."""
    if isinstance(reply, ReplyError):
        if "max number of clients" in str(reply):
            raise ConnectionError(str(reply))
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
