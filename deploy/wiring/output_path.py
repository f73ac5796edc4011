"""Where a command will write is tried before its work begins. Nothing is left of the attempt."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def require_writable_file(path: Path) -> None:
    """ValueError: this file cannot be written."""
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder; name a file to write.")
    if reason := _obstacle(path.parent):
        raise ValueError(f"{path} cannot be written: {path.parent}: {reason}. Name a place that you may write to.")
    try:
        there = path.exists()
    except OSError as error:  # its name is too long
        raise ValueError(f"{path} cannot be written: {error.strerror}. Name another file.") from error
    if there and not os.access(path, os.W_OK, effective_ids=True):
        raise ValueError(f"{path} cannot be written: Permission denied. Name another file.")


def require_writable_folder(path: Path, option: str) -> None:
    """ValueError: nothing can be written into this folder, which need not exist yet."""
    if reason := _obstacle(path):
        raise ValueError(
            f"{option} {path} cannot be written to: {reason}. Name another directory, one that you may write to."
        )


def require_new_folder(path: Path, option: str) -> None:
    """ValueError: this folder cannot be made, or there is something at its place already."""
    if os.path.exists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} exists already; name a new folder with {option}, or remove that one.")
    require_writable_folder(path, option)


def _obstacle(folder: Path) -> str:
    absent: list[Path] = []
    try:
        absent = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return "it is a file" if os.path.isfile(folder) else error.strerror or str(error)
    finally:
        for path in absent:
            with suppress(OSError):
                path.rmdir()
