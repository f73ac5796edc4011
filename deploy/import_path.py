"""The module search path: the user's own folder comes last, so that a replay.py there does not shadow ours."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[1])
_INSTALLED = ("site-packages", "dist-packages")


def own_folder_last(directory: str) -> None:
    """Search `directory` after everything else, and our packages before installed ones: some bring a package `tests`
    (opensimplex, for example)."""
    others = [path for path in sys.path if path not in ("", directory, ROOT)]
    installed = (place for place, path in enumerate(others) if Path(path).name in _INSTALLED)
    place = next(installed, len(others))
    sys.path[:] = [*others[:place], ROOT, *others[place:], *([directory] if directory != ROOT else [])]
