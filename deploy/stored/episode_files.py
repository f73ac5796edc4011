"""Episodes as compressed .npz files: ours, and those of the official DreamerV3 and its ports.

Ours: a folder with one file per episode, or several for a long one that was recorded (recording.py), keyed as in replay
but without latents, and `index.json`, which holds format, schema, spaces and episodes. Theirs: one file per episode, or
the official replay's consecutive chunks `TIME-ID-SUCCESSOR-LENGTH.npz`. No file contains pickles.
"""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from replay.files.checkpoint import write_index
from replay.files.new_directory import new_directory
from replay.files.npz import DamagedFileError, read_npz, write_npz
from replay.foreign_rows import Reading, looks_leading
from replay.reading.episodes import Found, StoredEpisode, cut
from replay.step import Rows, Schema

FORMAT = "nexus-episodes-1"
INDEX = "index.json"
_CHUNK = re.compile(r"(?P<time>[^-]+)-(?P<id>[^-]+)-(?P<successor>[^-]+)-(?P<length>\d+)")


def write_episodes(
    out: Path, schema: Schema, episodes: Iterable[StoredEpisode], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the folder `out`, complete or not at all. Returns the content of its index, including `facts`."""
    listed: list[dict[str, Any]] = []
    with new_directory(out) as folder:
        for number, episode in enumerate(episodes):
            name = f"{number:06d}-{episode.length}.npz"
            write_npz(folder / name, {key: episode.rows[key] for key in schema.fields})
            listed.append(
                {
                    "file": name, "crc32": zlib.crc32((folder / name).read_bytes()), "length": episode.length,
                    "return": episode.score,
                    "terminal": bool(episode.rows["is_terminal"][-1]),
                    "stream": episode.stream, "first_step": episode.first,
                }
            )  # fmt: skip
        if not listed:
            raise ValueError("There is no whole episode to export.")
        index = {
            "format": FORMAT, **facts, "keys": schema.to_json()["fields"],
            "counts": {"episodes": len(listed), "steps": sum(one["length"] for one in listed)},
            "episodes": listed,
        }  # fmt: skip
        write_index(folder, index)
    return index


def read_index(folder: Path) -> dict[str, Any] | None:
    """The content of our index; None if there is none. Raises ValueError if it is another program's or damaged."""
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}; name the .npz files themselves.") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path} does not have format {FORMAT!r}; name the .npz files themselves if it is not ours.")
    crc = index.pop("crc32", None)  # older indices have none
    if crc is not None and zlib.crc32(json.dumps(index).encode()) != crc:
        raise ValueError(f"{path} is damaged: it fails its checksum; name the .npz files themselves, and --task.")
    return index


def files_of(index: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The files of each episode in order: `file` and, but for older indices, `crc32` and `length`."""
    return [one.get("files") or [one] for one in index["episodes"]]


class NpzEpisodes:
    """The episodes of .npz files and folders of them, as whole episodes in rows of `reading.schema`.

    `custom` is the convention for actions: each row holds the action `chosen` after it, or the one `leading` to it;
    `auto` infers which. `found` counts episodes that are not whole, `damaged` lists damaged files and why.
    """

    def __init__(self, paths: Iterable[Path], reading: Reading, custom: str = "auto"):
        self.reading, self.found = reading, Found()
        self.damaged: dict[Path, str] = {}
        self._crcs: dict[Path, int | None] = {}  # from our index; older ones have none
        ours: list[list[Path]] = []
        theirs: list[Path] = []
        for path in paths:
            if path.is_dir() and (index := read_index(path)):
                for files in files_of(index):
                    named = {path / Path(str(one["file"])).name: one.get("crc32") for one in files}
                    ours.append(list(named))
                    self._crcs |= named
            else:
                theirs += _all(path) if path.is_dir() else [path]
        self.chains = ours + _chains(theirs)
        leading = custom == "leading" or (custom == "auto" and self._looks_leading(theirs))
        self.leading = frozenset(theirs) if leading else frozenset()

    def __iter__(self) -> Iterator[Rows]:
        for chain in self.chains:
            for _, rows in cut(self._pieces(chain), self.found):
                yield rows

    def _pieces(self, chain: list[Path]) -> Iterator[tuple[int, Rows]]:
        position = 0
        for file in chain:
            arrays = self._read(file)
            if arrays is None:
                position += 1  # no longer continues the file before it
                continue
            reading = replace(self.reading, leading=file in self.leading)
            rows = reading.fit(arrays, str(file), ends=len(chain) == 1)
            yield position, rows
            position += len(rows["is_first"])

    def _read(self, file: Path, keys: Iterable[str] | None = None) -> Rows | None:
        try:
            rows, crc = read_npz(file, keys), self._crcs.get(file)
            if crc is not None and zlib.crc32(file.read_bytes()) != crc:
                raise DamagedFileError(f"{file} cannot be read as .npz episodes: it fails its checksum")
            return rows
        except DamagedFileError as error:
            self.damaged[file] = str(error)
            return None

    def _looks_leading(self, files: list[Path]) -> bool:
        keys = self.reading.actions
        theirs = {key for key, ours in (self.reading.rename or {}).items() if ours in keys}
        whole = [file for file in files if not _CHUNK.fullmatch(file.stem)]
        arrays = (self._read(file, keys | theirs) or {} for file in whole)
        return looks_leading(value for some in arrays for value in some.values())


def _all(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError(f"{folder} holds no .npz files; name a folder of episodes.")
    return files


def _chains(files: list[Path]) -> list[list[Path]]:
    """Chains of consecutive files in order; any other file is a chain of its own."""
    chunks = {match["id"]: (match["successor"], file) for file in files if (match := _CHUNK.fullmatch(file.stem))}
    continued = {successor for successor, _ in chunks.values()}
    chains: list[list[Path]] = []
    for file in files:
        match = _CHUNK.fullmatch(file.stem)
        if match is None:
            chains.append([file])
        elif match["id"] not in continued:
            chain, id = [], match["id"]
            while id in chunks:
                id, one = chunks.pop(id)
                chain.append(one)
            chains.append(chain)
    return chains
