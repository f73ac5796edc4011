"""GETRANGE straight into the caller's memory, over a socket that redis-py opened.

This is the one thing that redis-py does more slowly: it would receive each value into a buffer, make a bytes object of
it, and wait for each reply before the next request. Here several requests are in flight, and large values are copied
once, by the kernel. RESP2 replies come in order and only on request, so between two exchanges neither this reader nor
redis-py's has bytes left.
"""

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from typing import NoReturn

from replay.redis.redis_refusal import ReplyError, not_redis, refusal

Request = tuple[bytes | str, int, memoryview]
"""Key, first byte, and memory for the bytes."""
_BUFFER = 1 << 16
_SMALL = 1 << 14  # bytes; replies up to this size may be read several at a time, and copied
_FEWEST = 2  # requests in flight, regardless of their size


class RangeReader:
    """Close it, with its socket, after any error but a ReplyError."""

    def __init__(self, sock: socket.socket, label: str, timeout: float) -> None:
        self._sock, self._label = sock, label
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._whole = 0 if self._tls else socket.MSG_WAITALL
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0  # received, not read yet
        self.set_timeout(timeout)

    def set_timeout(self, timeout: float) -> None:
        """Seconds that may pass without a byte. While ranges are received, the kernel enforces them: a Python timeout
        costs a poll() per call, and would return each piece of a large reply separately."""
        self._timeout = timeout
        if not self._tls:
            value = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._sock.setsockopt(socket.SOL_SOCKET, option, value)

    def read(self, requests: Sequence[Request], window: int) -> Iterator[int | ReplyError]:
        """Yield the bytes received for each request, at most what its memory holds. About `window` bytes are requested
        ahead."""
        if not self._tls:
            self._sock.settimeout(None)
        sent, ahead, n = 0, 0, len(requests)
        for i in range(n):
            if sent < n and (ahead <= window // 2 or sent < i + _FEWEST):
                commands = []
                while sent < n and (ahead < window or sent < i + _FEWEST):
                    key, start, room = requests[sent]
                    assert room.itemsize == 1, f"ranges are received as bytes, got a memoryview of {room.format}"
                    commands.append(_getrange(key, start, len(room)))
                    ahead += len(room)
                    sent += 1
                self._send(b"".join(commands))
            out = requests[i][2]
            yield self._bulk_into(out)
            ahead -= len(out)
        if not self._tls:
            self._sock.settimeout(self._timeout)

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except (BlockingIOError, TimeoutError):
            raise TimeoutError(f"it accepted no data for {self._timeout:g} s") from None

    def _receive(self, out: memoryview, n: int, flags: int = 0) -> int:
        try:
            got = self._sock.recv_into(out, n, flags)
        except (BlockingIOError, TimeoutError):
            raise TimeoutError(f"it was silent for {self._timeout:g} s") from None
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

    def _line(self, n: int) -> bytes:
        """The next line without its line end; until it is complete, `n` bytes are received at a time."""
        while (stop := self._buffer.find(b"\r\n", self._at, self._end)) < 0:
            if self._end - self._at == _BUFFER:
                self._not_redis(bytes(self._view))
            self._fill(n)
        line = bytes(self._view[self._at : stop])
        self._at = stop + 2
        return line

    def _bulk_into(self, out: memoryview) -> int | ReplyError:
        """Receive one bulk reply of at most `len(out)` bytes directly into `out`; returns its length."""
        line = self._line(32 if len(out) > _SMALL else _BUFFER)
        if line[:1] == b"-":
            return refusal(line[1:].decode(errors="replace"))
        if line[:1] != b"$" or not line[1:].isdigit() or (n := int(line[1:])) > len(out):
            self._not_redis(line)
        have = min(self._end - self._at, n)
        out[:have] = self._view[self._at : self._at + have]
        self._at += have
        while have < n:
            have += self._receive(out[have:], n - have, self._whole)
        while self._end - self._at < 2:  # the line end after them
            self._fill(32 if n > _SMALL else _BUFFER)
        self._at += 2
        return n

    def _not_redis(self, line: bytes) -> NoReturn:
        raise not_redis(self._label, line)


def _getrange(key: bytes | str, start: int, n: int) -> bytes:
    name = key.encode() if isinstance(key, str) else key
    first, last = (b"%d" % start, b"%d" % (start + n - 1)) if n else (b"1", b"0")
    return b"*4\r\n$8\r\nGETRANGE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(name), name, len(first), first, len(last), last,
    )  # fmt: skip
