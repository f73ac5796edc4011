"""What a run says of itself while it goes on: `status.json` in its directory, for `nexus scale` and other programs.

README.md lists its fields. `format` grows only when one of them changes its meaning or goes.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from replay.files.regular_file import open_regular
from replay.files.whole_file import whole_file

STATUS = "status.json"
FORMAT = 1


def write_status(logdir: Path, values: Mapping[str, Any]) -> None:
    """Replace the status at once, so that a reader never sees half of it. A full disk is the logs' business."""
    text = json.dumps({"format": FORMAT, **values}, indent=1)
    with suppress(OSError), whole_file(logdir / STATUS) as fresh:
        fresh.write_text(text)


def read_status(logdir: Path) -> dict[str, Any]:
    """The status of a run; empty if it has not written one, or it cannot be read."""
    with suppress(OSError, ValueError, RecursionError), open_regular(logdir / STATUS) as file:
        status = json.load(file)
        if isinstance(status, dict):
            return status
    return {}
