"""Where a command will write is tried before its work begins."""

import tempfile
from pathlib import Path


def require_writable_file(path: Path) -> None:
    """Make the folder of a file that is to be written; ValueError: the file cannot be written there."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file to write.")
    if reason := _obstacle(path.parent):
        raise ValueError(f"{path} cannot be written: {path.parent}: {reason}. Name a place that you may write to.")


def require_writable_folder(path: Path, option: str) -> None:
    """Make a folder that is to be filled; ValueError: nothing can be written there."""
    if reason := _obstacle(path):
        raise ValueError(
            f"{option} {path} cannot be written to: {reason}. Name another directory, one that you may write to."
        )


def _obstacle(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return "it is a file" if folder.is_file() else error.strerror or str(error)
