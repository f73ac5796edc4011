"""Tags, a note and the archive mark of a run, kept in its directory."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from replay.files.regular_file import open_regular
from replay.files.whole_file import sync_directory, synced, whole_file

FILE = "notes.json"
LONGEST_NOTE, LONGEST_TAG, MOST_TAGS = 4000, 40, 20


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What people have written about a run."""

    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False


def read_notes(logdir: Path) -> Notes:
    """The notes of a run; empty if there are none, or they cannot be read."""
    with suppress(OSError, ValueError, RecursionError), open_regular(logdir / FILE) as file:
        return changed(Notes(), json.load(file))
    return Notes()


def write_notes(logdir: Path, notes: Notes) -> None:
    """Replace the notes; complete or not at all. ValueError: they cannot be written, or not there."""
    file = logdir / FILE
    if file.is_symlink():
        raise ValueError(f"{file} is a link, and notes are written to no other place; remove it.")
    try:
        with whole_file(file) as fresh:
            fresh.unlink(missing_ok=True)  # what a crash has left, or a link
            with synced(fresh) as written:
                written.write(json.dumps(asdict(notes), indent=1).encode() + b"\n")
        sync_directory(logdir)
    except OSError as error:
        raise ValueError(f"The notes cannot be written to {file}: {error.strerror}.") from error


def changed(notes: Notes, changes: Any) -> Notes:
    """`notes` with other `tags`, `note` or `archived`. ValueError names what is wrong with the changes."""
    if not isinstance(changes, Mapping) or not changes.keys() <= {"tags", "note", "archived"}:
        raise ValueError("Notes are an object with some of tags, note, archived.")
    tags, note = changes.get("tags", notes.tags), changes.get("note", notes.note)
    archived = changes.get("archived", notes.archived)
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags must be a list of words.")
    tags = tuple(dict.fromkeys(word for tag in tags if (word := " ".join(tag.split()))))
    if len(tags) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in tags):
        raise ValueError(f"A run has at most {MOST_TAGS} tags of {LONGEST_TAG} characters.")
    if not isinstance(note, str) or len(note) > LONGEST_NOTE:
        raise ValueError(f"A note is a text of at most {LONGEST_NOTE} characters.")
    if not isinstance(archived, bool):
        raise ValueError("archived must be true or false.")
    return Notes(tags=tags, note=note, archived=archived)
