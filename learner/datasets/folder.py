"""Files of a folder, and the classes that its subfolders are. Paths are strings: a folder may hold millions."""

import os
from collections.abc import Sequence
from pathlib import Path


def files_in(where: Path, suffixes: Sequence[str]) -> list[str]:
    """Files with one of these suffixes, in any case, in a folder and all below it, or the file itself; sorted. Those
    whose names begin with a dot are left out."""
    allowed = tuple(suffixes)
    if where.is_file():
        return [str(where)] if where.name.lower().endswith(allowed) else []
    found: list[str] = []
    for folder, folders, names in os.walk(where):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        wanted = sorted(name for name in names if name.lower().endswith(allowed) and not name.startswith("."))
        found += [os.path.join(folder, name) for name in wanted]
    return found


def classes_of(where: Path, files: Sequence[str]) -> tuple[list[str], list[int]] | None:
    """Names of the classes and the class of each file, if every file lies in one of at least two subfolders."""
    if not where.is_dir():
        return None
    tops = [file[len(str(where)) :].lstrip(os.sep).partition(os.sep) for file in files]
    names = sorted({top for top, _, _ in tops})
    if len(names) < 2 or not all(rest for _, _, rest in tops):
        return None
    numbers = {name: number for number, name in enumerate(names)}
    return names, [numbers[top] for top, _, _ in tops]
