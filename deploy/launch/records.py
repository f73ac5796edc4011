"""What this user has launched, one file each, so that a job can be named without its target. Torch-free."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from deploy.launch.job import NAME
from deploy.launch.target import Launched, State, has_ended
from deploy.wiring.output_path import require_writable_folder
from replay.files.whole_file import whole_file
from world_models.dataclass_json import from_json

FOLDER = "NEXUS_HOME"
"""An environment variable; ~/.nexus by default."""
_said = set[Path]()


def folder() -> Path:
    """Where the records are."""
    return Path(os.environ.get(FOLDER) or Path.home() / ".nexus") / "jobs"


def require_writable() -> None:
    """ValueError: nothing can be written there."""
    require_writable_folder(folder(), f"The folder of launched runs (see {FOLDER})")


def write(launched: Launched) -> None:
    """Keep a record; it replaces that of an earlier launch of the same job."""
    folder().mkdir(parents=True, exist_ok=True)
    with whole_file(folder() / f"{launched.name}.json") as fresh:
        fresh.write_text(json.dumps(asdict(launched)))


def remember(launched: Launched, state: State, why: str) -> None:
    """Keep how a job has ended, unless it has been launched again."""
    if has_ended(state) and find(launched.name) == launched:
        with suppress(OSError):  # then the target is asked again
            write(replace(launched, state=state, why=why))


def forget(name: str) -> None:
    """Remove the record of a job; its run directory stays."""
    (folder() / f"{name}.json").unlink(missing_ok=True)


def find(name: str) -> Launched | None:
    """The record of a job, by its name; None: there is none."""
    return next((one for one in everything() if one.name == name), None)


def read(name: str) -> Launched:
    """The record of a job, by its name or its run directory. ValueError: there is none."""
    for launched in everything():
        if name == launched.name or str(Path(name).absolute()) == launched.logdir:
            return launched
    known = ", ".join(sorted(one.name for one in everything())) or "none"
    raise ValueError(f"{name!r} is no job launched from here; there are: {known}. nexus jobs lists them.")


def everything() -> Iterator[Launched]:
    """All records that can be read, newest first; what else lies there is named on standard error, once."""
    found = [one for path in sorted(folder().glob("*.json")) if (one := _read(path))] if folder().is_dir() else []
    yield from sorted(found, key=lambda one: -one.time)


def _read(path: Path) -> Launched | None:
    try:
        one = from_json(Launched, json.loads(path.read_text()))
        if not re.fullmatch(NAME, one.name):
            raise ValueError(f"{one.name!r} is no name of a job")
        return one
    except (OSError, ValueError, TypeError, RecursionError) as error:
        if path not in _said:
            _said.add(path)
            print(f"{path} is no record of a launched run and is left out: {error}", file=sys.stderr)
        return None
