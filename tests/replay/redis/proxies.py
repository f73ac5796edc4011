"""Bad lines and bad neighbours: a TCP proxy that drops connections or adds TLS, and servers that are not Redis."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class Listener:
    """Hands each connection to `handle`, in a thread of its own, until the context ends."""

    def __init__(self, handle: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self._handle, self._context = handle, context
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.accepted = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=10)
            assert not thread.is_alive(), "a thread of the test's own server did not end within 10 s"
        self._socket.close()

    def cut(self) -> None:
        """Drop every connection."""
        with self._lock:
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _track(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.add(sock)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self._track(sock)  # before it counts: cut() drops every connection that a test knows of
            self.accepted += 1
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                if self._context:
                    with self._context.wrap_socket(sock, server_side=True) as secured:
                        self._track(secured)
                        self._handle(secured)
                else:
                    self._handle(sock)
            except OSError:
                pass
            finally:
                with self._lock:
                    self._open = {one for one in self._open if one.fileno() >= 0}


class Proxy(Listener):
    """Before the server on `target` of 127.0.0.1. `cut_after` drops the connection once that many more bytes have come
    from the server, and then works as if nothing had been."""

    def __init__(self, target: int, context: ssl.SSLContext | None = None) -> None:
        super().__init__(self._forward, context)
        self._target = target
        self.cut_after: int | None = None

    def _forward(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._target), 10) as server:
            server.settimeout(None)
            self._track(server)
            self._start(self._pump, client, server)
            while data := server.recv(1 << 16):
                if self.cut_after is not None:
                    data, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        client.sendall(data)
                        break
                client.sendall(data)
            for sock in (client, server):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)


def answering(reply: bytes) -> Callable[[socket.socket], None]:
    """A server that says `reply` to whatever it first hears, and nothing more until the other side leaves."""

    def handle(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(reply)
        while sock.recv(1 << 16):
            pass

    return handle


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate for `name` and 127.0.0.1, and its key."""
    crt, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", str(key), "-out", str(crt)]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    return crt, key
