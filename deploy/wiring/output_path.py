"""Checks before a command starts that it can write its output. The checks leave nothing behind."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def require_writable_file(path: Path) -> None:
    """Raises ValueError if this file cannot be written."""
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder; name a file to write.")
    if reason := _obstacle(path.parent):
        raise ValueError(f"{path} cannot be written: {path.parent}: {reason}. Choose a place that you may write to.")
    try:
        there = path.exists()
    except OSError as error:  # its name is too long
        raise ValueError(f"{path} cannot be written: {error.strerror}. Choose another file.") from error
    if there and not os.access(path, os.W_OK, effective_ids=True):
        raise ValueError(f"{path} cannot be written: Permission denied. Choose another file.")


def require_writable_folder(path: Path, option: str) -> None:
    """Raises ValueError if nothing can be written to this folder, which need not exist yet."""
    if reason := _obstacle(path):
        raise ValueError(f"{option} {path} cannot be written to: {reason}. Choose a directory that you may write to.")


def require_new_folder(path: Path, option: str) -> None:
    """Raises ValueError if this folder cannot be made, or already exists."""
    if os.path.exists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} already exists; name a new folder with {option}, or remove that one.")
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
