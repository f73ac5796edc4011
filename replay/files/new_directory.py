"""Directories that are complete or absent, whatever happens while they are written."""

import glob
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replay.files.whole_file import sync_directory


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary directory to fill: it is renamed to `path` when the block ends, and removed if the block fails.

    The renaming survives a loss of power; what the block writes does if the block syncs it. What an earlier process
    left of the same directory is removed first. With `replace` a directory at `path` stays until the new one is
    complete: see recover(). ValueError: without it, there is something at `path` other than an empty directory.
    """
    if replace:
        recover(path.parent, glob.escape(path.name))
    elif path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} already exists; choose a new directory.")
    fresh, old = _temporary(path, "new"), _temporary(path, "old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        sync_directory(fresh)
        if replace and path.exists():
            path.rename(old)
        fresh.rename(path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sync_directory(path.parent)


def recover(folder: Path, names: str) -> None:
    """Undo replacements that were killed between their two renames: of the directories in `folder` whose names match
    this pattern."""
    for old in folder.glob(f".{names}.old"):
        path = folder / old.name[1 : -len(".old")]
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)


def remove_unfinished(folder: Path, names: str) -> None:
    """Remove what killed processes left of directories whose names match this pattern."""
    for fresh in folder.glob(f".{names}.new"):
        shutil.rmtree(fresh, ignore_errors=True)


def _temporary(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")
