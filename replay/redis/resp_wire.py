"""RESP2, the protocol of Redis, over one socket: no retries, no copies of large values on the way out or in."""

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias

import numpy as np

from replay.redis.redis_refusal import ReplyError, refusal
from replay.redis_url import Address

Arg: TypeAlias = bytes | bytearray | memoryview | np.ndarray | str | int | np.integer
Reply: TypeAlias = bytes | int | list[Any] | None
_JOINED = 8192  # smaller arguments are copied into one piece with their neighbours
_PIECES = 512  # of one sendmsg; Linux takes 1024
_BUFFER = 1 << 16
_SMALL = 1 << 14  # replies up to here may be read several at a time, and copied


def open_socket(address: Address, timeout: float) -> socket.socket:
    """A connected socket. OSError: worth another try; ValueError: certificates that will not do, or no TLS there."""
    sock = socket.socket(socket.AF_UNIX) if address.path else None
    try:
        if sock:
            sock.settimeout(timeout)
            sock.connect(address.path)
            return sock
        sock = socket.create_connection((address.host, address.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return _secured(sock, address) if address.tls else sock
    except BaseException as error:
        if sock:
            sock.close()
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"no {'TLS ' if address.tls else ''}connection within {timeout:g} s") from None
        if isinstance(error, PermissionError) and address.path:
            raise ValueError(f"This user may not open {address.path}; see unixsocketperm in redis.conf.") from None
        raise


def _secured(sock: socket.socket, address: Address) -> socket.socket:
    try:
        context = ssl.create_default_context(cafile=address.ca or None)
        if address.certificate:
            context.load_cert_chain(address.certificate, address.key or None)
    except OSError as error:  # SSLError is one too
        files = ", ".join(filter(None, (address.ca, address.certificate, address.key)))
        raise ValueError(f"The certificate files {files} of {address.label} cannot be used: {error}.") from error
    if address.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(sock, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        raise ValueError(
            f"The certificate of {address.label} is not to be trusted: {error.verify_message}. Name the file of its "
            "authority with ca=FILE; insecure=1 takes any certificate."
        ) from None
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            raise
        raise ValueError(f"{address.label} does not speak TLS as we do: {error.reason}. Is it redis:// only?") from None


class Wire:
    """A connection that has to be given up after any error but a ReplyError."""

    def __init__(self, sock: socket.socket, label: str, timeout: float) -> None:
        self._sock, self._label = sock, label
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._whole = 0 if self._tls else socket.MSG_WAITALL
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0  # what is received and not read yet
        self.set_timeout(timeout)

    def set_timeout(self, timeout: float) -> None:
        """Seconds without one byte. The kernel keeps them: a Python time-out costs a poll() at every call, and would
        return each piece of a large reply by itself."""
        self._timeout = timeout
        if self._tls:
            self._sock.settimeout(timeout)
            return
        self._sock.settimeout(None)
        value = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, value)

    def close(self) -> None:
        self._sock.close()

    def hang_up(self) -> None:
        """Wakes the thread that waits for this wire; may be called from another one."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def send(self, commands: Sequence[Sequence[Arg]]) -> None:
        pieces = list(_pieces(commands))
        for i in range(0, len(pieces), _PIECES):
            self._send_pieces(pieces[i : i + _PIECES])

    def send_bytes(self, data: bytes) -> None:
        self._send_pieces([data])

    def _send_pieces(self, pieces: list[bytes | memoryview]) -> None:
        try:
            if self._tls:
                for piece in pieces:
                    self._sock.sendall(piece)
                return
            while pieces:
                sent = self._sock.sendmsg(pieces)
                while pieces and sent >= len(pieces[0]):
                    sent -= len(pieces.pop(0))
                if sent:
                    pieces[0] = memoryview(pieces[0])[sent:]
        except (BlockingIOError, TimeoutError):
            raise TimeoutError(f"it took nothing for {self._timeout:g} s") from None
        except ssl.SSLError:
            self._receive(self._view, 1)  # why it hung up, if it said
            raise

    def _receive(self, out: memoryview, n: int, flags: int = 0) -> int:
        try:
            got = self._sock.recv_into(out, n, flags)
        except (BlockingIOError, TimeoutError):
            raise TimeoutError(f"it was silent for {self._timeout:g} s") from None
        except ssl.SSLError as error:  # TLS 1.3 servers refuse only after the handshake
            if "CERTIFICATE" in (error.reason or ""):
                raise ValueError(
                    f"{self._label} refuses our certificate ({error.reason}); give one it trusts: cert=FILE&key=FILE."
                ) from None
            raise
        if not got:
            raise ConnectionResetError("it closed the connection")
        return got

    def _fill(self, n: int) -> None:
        """Receive up to `n` bytes more into the buffer."""
        if self._at == self._end:
            self._at = self._end = 0
        elif self._end + n > _BUFFER:
            kept = self._end - self._at
            self._buffer[:kept] = self._buffer[self._at : self._end]
            self._at, self._end = 0, kept
        self._end += self._receive(self._view[self._end :], min(n, _BUFFER - self._end))

    def _line(self, n: int = _BUFFER) -> bytes:
        """The next line without its end; while it is not there, `n` bytes are received at a time."""
        while (stop := self._buffer.find(b"\r\n", self._at, self._end)) < 0:
            if self._end > self._at and (self._buffer[self._at] not in b"+-:$*" or self._end - self._at == _BUFFER):
                self._not_redis()
            self._fill(n)
        line = bytes(self._view[self._at : stop])
        self._at = stop + 2
        return line

    def _body(self, out: memoryview, n: int) -> None:
        """Receive `n` bytes into `out` and the line end behind them."""
        have = min(self._end - self._at, n)
        out[:have] = self._view[self._at : self._at + have]
        self._at += have
        while have < n:
            have += self._receive(out[have:], n - have, self._whole)
        while self._end - self._at < 2:
            self._fill(32 if n > _SMALL else _BUFFER)
        self._at += 2

    def bulk_into(self, out: memoryview) -> int:
        """Receive one bulk reply of at most `len(out)` bytes straight into `out`; returns its length."""
        line = self._line(32 if len(out) > _SMALL else _BUFFER)
        if line[:1] == b"-":
            raise refusal(line)
        if line[:1] != b"$" or not line[1:].isdigit() or (n := int(line[1:])) > len(out):
            self._not_redis(line)
        self._body(out, n)
        return n

    def reply(self) -> Reply | ReplyError:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return refusal(line)
        try:
            n = int(rest)
        except ValueError:
            self._not_redis(line)
        if kind == b":":
            return n
        if kind == b"$":
            if n < 0:
                return None
            if self._end - self._at >= n + 2:
                value = bytes(self._view[self._at : self._at + n])
                self._at += n + 2
                return value
            out = bytearray(n)
            self._body(memoryview(out), n)
            return bytes(out)
        if kind == b"*":
            return None if n < 0 else [self.reply() for _ in range(n)]
        self._not_redis(line)

    def _not_redis(self, line: bytes | None = None) -> NoReturn:
        seen = bytes(self._view[self._at : self._end]) if line is None else line
        raise ValueError(
            f"{self._label} is not a Redis server, or wants TLS (rediss://): it sent {seen[:40]!r}. "
            "Check host and port."
        )


def _pieces(commands: Sequence[Sequence[Arg]]) -> Iterator[bytes | memoryview]:
    """The commands as they go out: large arguments as they are, everything between them joined."""
    small: list[bytes] = []
    for command in commands:
        small.append(b"*%d\r\n" % len(command))
        for arg in command:
            if isinstance(arg, str):
                arg = arg.encode()
            elif isinstance(arg, int | np.integer):
                arg = b"%d" % arg
            size = len(arg) if isinstance(arg, bytes | bytearray) else arg.nbytes
            small.append(b"$%d\r\n" % size)
            if size < _JOINED:
                small += (arg if isinstance(arg, bytes) else bytes(arg), b"\r\n")
            else:
                yield b"".join(small)
                if isinstance(arg, np.ndarray):
                    arg = np.ascontiguousarray(arg).reshape(-1).view(np.uint8).data
                yield memoryview(arg).cast("B")
                small = [b"\r\n"]
    yield b"".join(small)
