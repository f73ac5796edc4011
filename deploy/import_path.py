"""The module search path: the user's own folder comes last, so that a replay.py there does not shadow ours."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[1])


def own_folder_last(directory: str) -> None:
    """Search `directory` after everything else, including our packages (an editable install comes after `sys.path`)."""
    others = [path for path in sys.path if path not in ("", directory, ROOT)]
    sys.path[:] = [*others, ROOT] if directory == ROOT else [*others, ROOT, directory]
