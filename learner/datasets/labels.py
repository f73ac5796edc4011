"""Files of a folder, and the classes that their subfolders are."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def files_in(where: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files with one of these suffixes, in any case, in a folder and all below it, or the file itself; sorted."""
    allowed = tuple(suffixes)
    if where.is_file():
        return [where] if where.suffix.lower() in allowed else []
    found = []
    for folder, folders, names in os.walk(where):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if name.lower().endswith(allowed) and name[0] != "."]
    return found


def classes_of(where: Path, files: Sequence[Path]) -> tuple[list[str], list[int]] | None:
    """Names of the classes and the class of each file, if every file lies in one of at least two subfolders."""
    parts = [file.relative_to(where).parts for file in files] if where.is_dir() else []
    if not parts or min(map(len, parts)) < 2:
        return None
    names = sorted({first for first, *_ in parts})
    numbers = {name: number for number, name in enumerate(names)}
    return (names, [numbers[first] for first, *_ in parts]) if len(names) > 1 else None
