"""One session of tests: a folder for all its temporary files, by which its processes are known too, what its tests
share, and what it leaves behind, which is to be nothing. With pytest-xdist its workers are part of it.
"""

import contextlib
import gc
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
OWNER = "NEXUS_TESTS_OWNER"  # the process id of the pytest that began the session

shared = contextlib.ExitStack()
"""Servers and processes that several files share; closed when this process has run its last test."""


def begin() -> None:
    """Put the temporary files of this process, and of whatever it starts, into the session's folder."""
    if OWNER not in os.environ:
        # pytest's own folders stay where they are looked for. The name is short: sockets lie in the folder.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="nexus-")
        os.environ[OWNER] = str(os.getpid())
        tempfile.tempdir = None  # to be looked up again


def is_owner() -> bool:
    """Whether this process is the session, and not a worker of it."""
    return os.environ.get(OWNER) == str(os.getpid())


def folder() -> Path:
    return Path(os.environ["TMPDIR"])


def leftovers(timeout: float) -> list[str]:
    """A line for everything that is still there after `timeout` seconds, which processes may need to end."""
    gc.collect()  # a disk store's directory goes with the store
    deadline = time.monotonic() + timeout
    while (left := _processes() + _files() + _sockets()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def end() -> None:
    """Kill and remove what is left, so that the next session does not find it."""
    for process in _members():
        with contextlib.suppress(psutil.Error):
            process.kill()
    for path in (folder(), *SHARED_MEMORY.glob(f"{folder().name}-*")):
        shutil.rmtree(path, ignore_errors=True)


def _members() -> list[psutil.Process]:
    """The session's processes but this one: its children, and all that have inherited its folder."""
    found = {process.pid: process for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(folder()):
                found[process.pid] = process
    return [process for pid, process in found.items() if pid != os.getpid()]


def _processes() -> list[str]:
    lines = []
    for process in _members():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            # multiprocessing's tracker ends with the process that it serves.
            if process.status() != psutil.STATUS_ZOMBIE and "multiprocessing.resource_tracker" not in command:
                lines.append(f"process {process.pid}: {command[:200]}")
    return lines


def _files() -> list[str]:
    return [f"shared memory {path}" for path in SHARED_MEMORY.glob(f"{folder().name}-*")]


def _sockets() -> list[str]:
    """Those that this process listens on, and those that lie about as files; Ray leaves the ones in its own folder."""
    listening = [
        f"listening socket {connection.laddr}"
        for connection in psutil.Process().net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    paths = [path for path in folder().rglob("*") if path.relative_to(folder()).parts[0] != "ray"]
    return listening + [f"socket {path}" for path in paths if stat.S_ISSOCK(path.lstat().st_mode)]
