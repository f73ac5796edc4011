"""Where modules are looked for: the user's own folder last, lest a replay.py there stand in for ours."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[1])


def own_folder_last(directory: str) -> None:
    """Put `directory` behind everything else, our packages included (an editable install is found after `sys.path`)."""
    others = [path for path in sys.path if path not in ("", directory, ROOT)]
    sys.path[:] = [*others, ROOT] if directory == ROOT else [*others, ROOT, directory]
