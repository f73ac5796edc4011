"""One process at a time works in a directory."""

import fcntl
import os
import time
from pathlib import Path

_PATIENCE = 2.0  # seconds: the process before this one may still be on its way out


def lock_directory(directory: Path) -> int:
    """A descriptor that locks the directory until it is closed or the process ends; ValueError: it is locked."""
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            holder = os.pread(file, 20, 0).decode(errors="replace") or "unknown"
            os.close(file)
            raise ValueError(
                f"Replay {directory} is in use by process {holder}; end it, or choose another directory."
            ) from None
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return file
