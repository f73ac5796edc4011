"""What this user has launched, one file each, so that a job can be named without its target. Torch-free."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from deploy.launch.job import NAME
from deploy.launch.target import Launched
from replay.files.whole_file import whole_file

FOLDER = "NEXUS_HOME"
"""An environment variable; ~/.nexus by default."""


def folder() -> Path:
    """Where the records are."""
    return Path(os.environ.get(FOLDER) or Path.home() / ".nexus") / "jobs"


def write(launched: Launched) -> None:
    """Keep a record; it replaces that of an earlier launch of the same job."""
    folder().mkdir(parents=True, exist_ok=True)
    with whole_file(folder() / f"{launched.name}.json") as fresh:
        fresh.write_text(json.dumps(asdict(launched)))


def find(name: str) -> Launched | None:
    """The record of a job, by its name; None: there is none."""
    return next((one for one in everything() if one.name == name), None)


def read(name: str) -> Launched:
    """The record of a job, by its name or its run directory. ValueError: there is none."""
    for launched in everything():
        if name in (launched.name, launched.logdir):
            return launched
    known = ", ".join(sorted(one.name for one in everything())) or "none"
    raise ValueError(f"{name!r} is no job launched from here; there are: {known}. nexus jobs lists them.")


def everything() -> Iterator[Launched]:
    """All records that can be read, newest first."""
    found = []
    for path in folder().glob("*.json") if folder().is_dir() else ():
        try:
            found.append(Launched(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):
            continue
    yield from sorted((one for one in found if re.fullmatch(NAME, one.name)), key=lambda one: -one.time)
