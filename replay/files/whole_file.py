"""Files that are complete or absent, and survive a loss of power."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, with the same suffix: it replaces `path` once it is written, and is removed if
    that fails. OSError names `path`."""
    target = path.resolve()
    if target.exists() and not target.is_file():  # /dev/stdout, say
        yield path
        return
    fresh = target.with_name(f".{target.stem}.new{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        fresh.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            fresh.unlink()


def write_durably(path: Path, data: bytes) -> None:
    """Replace the content of a file by `data`: atomically, and surviving a loss of power."""
    with whole_file(path) as fresh, synced(fresh, "wb") as file:
        file.write(data)
    sync_directory(path.parent)


@contextmanager
def synced(path: Path, mode: Literal["wb", "xb"] = "xb") -> Iterator[BinaryIO]:
    """A file to write, which survives a loss of power once the block has ended; new unless the mode is "wb"."""
    with path.open(mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make renames in a directory survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
