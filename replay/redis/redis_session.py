"""A session with a Redis server: redis-py opens the connection, logs in, sends commands and reads replies."""

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TypeAlias

import numpy as np
import redis
from redis.connection import (
    AbstractConnection,
    DefaultParser,
    PythonRespSerializer,
    SSLConnection,
    UnixDomainSocketConnection,
)

from replay.redis.redis_ranges import RangeReader, Request
from replay.redis.redis_refusal import ReplyError, not_let_in, not_redis, refusal, require_welcome
from replay.redis_url import Address

Arg: TypeAlias = bytes | bytearray | memoryview | np.ndarray | str | int | np.integer
Reply: TypeAlias = bytes | int | list[Any] | None
_JOINED = 1 << 16  # bytes; smaller arguments are joined with their neighbours in one buffer
_SLICE = 1 << 18  # bytes per send over TLS: the timeout applies to each; 64 KB would be slower
_GREETING = 40  # bytes that a message quotes of what a server other than Redis sent


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]
    """Keeps error replies as the server sent them: redis-py would drop their first word, and raise some at once."""

    EXCEPTION_CLASSES: ClassVar[dict[str, Any]] = {}


class _TlsConnection(SSLConnection):
    """Trusts the authorities it is given and no others, or the system's: redis-py's own would trust both."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.ca_certs, capath=self.ca_path)
        context.check_hostname = self.check_hostname
        context.verify_mode = self.cert_reqs
        if self.certfile:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context.wrap_socket(sock, server_hostname=self.host)


class Session:
    """Close it after any error but a ReplyError.

    Errors: OSError if it is worth trying again; ValueError if the server cannot be used, NotReadyError if it cannot be
    used yet.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address, self._timeout = address, timeout
        self._redis = _connection(address, timeout, self._log_in)
        self._hung_up = False

    def open(self) -> None:
        """Connect and log in; comes first."""
        self._connect()
        sock = self._redis._get_socket()
        assert sock is not None, self.address
        self._sock = sock
        self._ranges = RangeReader(sock, self.address.label, self._timeout)

    def ask(self, commands: Sequence[Sequence[Arg]]) -> list[Reply | ReplyError]:
        """Send all commands, then read all replies. Errors are in the list as exceptions."""
        self._send(self._redis.pack_commands(commands))
        return [self._reply() for _ in commands]

    def _send(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Send on a blocking socket, whose SO_SNDTIMEO starts again whenever the server takes some bytes: Python's own
        timeout would limit all of sendall(). TLS sends slices with a timeout for each instead."""
        tls = self.address.tls
        self._sock.settimeout(self._timeout if tls else None)
        try:
            for piece in _slices(pieces) if tls else pieces:
                self._sock.sendall(piece)
        except (BlockingIOError, TimeoutError):
            raise TimeoutError(f"it accepted no data for {self._timeout:g} s") from None
        finally:
            self._sock.settimeout(self._timeout)

    def ranges(self, requests: Sequence[Request], window: int) -> Iterator[int | ReplyError]:
        """See RangeReader.read."""
        return self._ranges.read(requests, window)

    def set_timeout(self, timeout: float) -> None:
        """Seconds that the server may stay silent from now on."""
        self._timeout = timeout
        self._sock.settimeout(timeout)
        self._ranges.set_timeout(timeout)

    def close(self) -> None:
        self._redis.disconnect()

    def hang_up(self) -> None:
        """Wake the thread that waits for this session, unless a TCP connection or TLS handshake is under way, which
        has its own timeout; may be called from another thread."""
        self._hung_up = True
        sock = self._redis._get_socket()
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        address = self.address
        if address.tls:
            _require_certificates(address)
        try:
            self._redis.connect()
        except redis.TimeoutError:
            tls = "TLS " if address.tls else ""
            raise TimeoutError(f"no {tls}connection within {self._redis.socket_connect_timeout:g} s") from None
        except redis.ConnectionError as error:
            cause = _cause(error)
            if isinstance(cause, PermissionError) and address.path:
                raise ValueError(
                    f"This user has no permission to open {address.path}; see unixsocketperm in redis.conf."
                ) from None
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise ValueError(
                    f"The certificate of {address.label} is not trusted: {cause.verify_message}. Set ca=FILE to the "
                    "certificate of its authority; insecure=1 accepts any certificate."
                ) from None
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                raise ValueError(
                    f"The TLS handshake with {address.label} failed: {cause.reason}. If it does not use TLS, write redis://."
                ) from None
            raise cause from None

    def _log_in(self, connection: AbstractConnection) -> None:
        """Called by redis-py on a new connection: check from the first reply, perhaps the only one, that the server is
        Redis and accepts clients; then let redis-py authenticate."""
        sock = connection._get_socket()
        assert sock is not None, self.address
        if self._hung_up:  # before there was a socket to shut down
            raise ConnectionAbortedError("the connection was closed")
        connection._get_parser().on_connect(connection)
        with suppress(OSError):  # it may have closed the connection already, and sent the reason
            sock.sendall(b"PING\r\n")
        self._require_redis(sock)
        require_welcome(self._reply(), self.address)
        if not self.address.password:
            return
        try:
            connection.on_connect()
        except redis.ResponseError as error:
            raise not_let_in(refusal(str(error)), self.address) from None
        except redis.TimeoutError:
            raise TimeoutError(f"it was silent for {self._timeout:g} s") from None
        except redis.ConnectionError as error:
            raise _cause(error) from None

    def _require_redis(self, sock: socket.socket) -> None:
        if self.address.tls:
            return  # TLS has no peek; redis-py's parser notices
        try:
            seen = sock.recv(_GREETING, socket.MSG_PEEK)
        except TimeoutError:
            raise TimeoutError(f"it was silent for {self._timeout:g} s") from None
        if seen and seen[:1] not in b"+-:$*":
            raise not_redis(self.address.label, seen)

    def _reply(self) -> Reply | ReplyError:
        try:
            return _ours(self._redis.read_response(disable_decoding=True))
        except redis.ResponseError as error:
            return refusal(str(error))
        except redis.TimeoutError:
            raise TimeoutError(f"it was silent for {self._timeout:g} s") from None
        except redis.InvalidResponse as error:
            raise not_redis(self.address.label, str(error)) from None
        except redis.ConnectionError as error:
            cause = _cause(error)
            if isinstance(cause, ssl.SSLError) and "CERTIFICATE" in (cause.reason or ""):  # only after the handshake
                raise ValueError(
                    f"{self.address.label} refuses our certificate ({cause.reason}); set one that it trusts: "
                    "cert=FILE&key=FILE."
                ) from None
            raise cause from None


def _connection(address: Address, timeout: float, log_in: Callable[[AbstractConnection], None]) -> AbstractConnection:
    kind: type[Any] = _TlsConnection if address.tls else redis.Connection
    where: dict[str, Any] = {"host": address.host, "port": address.port}
    if address.path:
        kind, where = UnixDomainSocketConnection, {"path": address.path}
    waits = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, address.options.get("socket_connect_timeout", timeout)),
    }
    return kind(
        **{**where, **address.options, **waits},
        username=address.username or None,
        password=address.password or None,
        protocol=2,  # replies come in order, and only on request
        parser_class=_Parser,
        encoding_errors="replace",
        command_packer=PythonRespSerializer(_JOINED, _encoded),  # hiredis's copies large values
        driver_info=None,  # no CLIENT SETINFO, which Redis 6.2 does not know
        redis_connect_func=log_in,
    )


def _require_certificates(address: Address) -> None:
    """ValueError: the certificate files cannot be used."""
    authorities = [address.options.get(name) for name in ("ssl_ca_certs", "ssl_ca_path")]
    own = [address.options.get(name) for name in ("ssl_certfile", "ssl_keyfile")]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if any(authorities):
            context.load_verify_locations(*authorities)
        if own[0]:
            context.load_cert_chain(own[0], own[1])
    except OSError as error:  # SSLError is one too
        files = ", ".join(filter(None, authorities + own))
        raise ValueError(f"The certificate files {files} of {address.label} cannot be used: {error}.") from error


def _cause(error: redis.ConnectionError) -> OSError:
    """The error of the operating system that redis-py has wrapped."""
    context: BaseException | None = error
    while context is not None and not isinstance(context, OSError):
        context = context.__context__
    return context or ConnectionResetError("it closed the connection")


def _ours(reply: Any) -> Any:
    """A reply with the errors inside it as ReplyErrors."""
    if isinstance(reply, list):
        return [_ours(part) for part in reply]
    return refusal(str(reply)) if isinstance(reply, redis.ResponseError) else reply


def _slices(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The pieces, large ones cut into slices without a copy."""
    for piece in pieces:
        view = memoryview(piece)
        yield from (view[start : start + _SLICE] for start in range(0, len(view), _SLICE))


def _encoded(arg: Arg) -> bytes | memoryview:
    """An argument as bytes: a large array without a copy, everything else copied."""
    if isinstance(arg, str | int | np.integer):
        return str(arg).encode()
    if isinstance(arg, np.ndarray):
        arg = np.ascontiguousarray(arg).reshape(-1).view(np.uint8).data
    view = memoryview(arg)
    return bytes(view) if view.nbytes < _JOINED else view.cast("B")
