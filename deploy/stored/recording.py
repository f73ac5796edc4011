"""A folder of episodes that is written while they are played. Legend: N environments.

The format is that of episode_files.py, but that a long episode has several files: whoever wants a few of its steps
unpacks no more than the files that they lie in.
"""

import json
import os
import zlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from deploy.stored.episode_files import FORMAT, INDEX, files_of, read_index
from deploy.wiring.output_path import require_new_folder
from replay.disk.directory_lock import lock_directory
from replay.files.checkpoint import signed
from replay.files.npz import write_npz
from replay.files.whole_file import whole_file, write_durably
from replay.step import Rows, Schema
from world_models.dataclass_json import differences

STEPS = 128
"""The most steps of a file. Half as many cost a fifth more space on CoinRun."""
_LEVEL = 3  # of compression: twice as fast as the usual 6, a third larger
_WAITING = 16  # files to be compressed, until the environments wait


class Recording:
    """Episodes of N environments in the folder `out`; a context manager, after which all that was added is stored.

    An `out` that holds a recording with the same `facts` (what the episodes are: task, spaces, policy, seed ...) is
    continued after what its index lists. Files appear whole or not at all, and the index after them: a process that is
    killed loses what was added since the last `save`, and what had not filled a file then. ValueError: there is
    something else in `out`, or another process writes there.
    """

    def __init__(self, out: Path, schema: Schema, facts: Mapping[str, Any], environments: int) -> None:
        self.out, self.schema = out, schema
        self.facts: dict[str, Any] = json.loads(json.dumps(facts))  # as they are read again
        self.continues = (out / INDEX).exists()
        """Whether there was a recording."""
        if not self.continues:
            require_new_folder(out, "--out")
            out.mkdir(parents=True, exist_ok=True)
        self._lock = lock_directory(out)
        self._episodes: list[dict[str, Any]] = []
        self._pending: deque[tuple[dict[str, Any], dict[str, Any], Future[int]]] = deque()
        try:
            if self.continues:
                self._episodes = self._stored()
            self.save()
        except BaseException:
            os.close(self._lock)
            raise
        self.steps = sum(one["length"] for one in self._episodes)
        """Steps that were added, those of earlier processes included."""
        files = (str(one["file"]) for files in files_of(self.index()) for one in files)
        self._number = 1 + max((int(file.split("-")[0]) for file in files), default=-1)
        self._open: list[dict[str, Any] | None] = [None] * environments
        self._begin = np.zeros(environments, np.int64)  # of each environment's rows in the buffer
        self._filled = 0
        self._buffer: Rows = {}
        self._broken = False  # a file could not be written
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="recording")

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def episodes(self) -> int:
        """The number of episodes, whole or not, as far as their files are listed."""
        return len(self._episodes)

    @property
    def whole(self) -> list[dict[str, Any]]:
        """The episodes that have ended, as the index lists them."""
        return [one for one in self._episodes if one["ended"]]

    def add(self, rows: Rows, environments: int) -> None:
        """One row `[N, ...]` of each environment; only those of the first `environments` are stored, fewer than N in
        the last call. OSError: a file cannot be written."""
        for i in range(environments, len(self._open)):
            self._cut(i)
        if not self._buffer:
            fields = self.schema.fields
            self._buffer = {key: np.empty((STEPS, *rows[key].shape), field.dtype) for key, field in fields.items()}
        for key, values in self._buffer.items():
            values[self._filled] = rows[key]
        self._filled += 1
        self._begin[environments:] = self._filled
        self.steps += environments
        full = self._filled == STEPS
        for i in range(environments) if full else np.flatnonzero(rows["is_last"][:environments]).tolist():
            self._cut(i)
        if full:
            self._filled = 0
            self._begin[:] = 0

    def save(self) -> None:
        """Write the index of what has filled files. OSError."""
        self._settle(_WAITING)
        write_durably(self.out / INDEX, signed(self.index()))

    def close(self) -> None:
        """Write all that was added. OSError."""
        try:
            if not self._broken:
                for i in range(len(self._open)):
                    self._cut(i)
                self._settle(0)
            self.save()
        finally:
            self._writer.shutdown(wait=True, cancel_futures=True)
            os.close(self._lock)

    def index(self) -> dict[str, Any]:
        """The content of the index."""
        counts = {"episodes": len(self.whole), "steps": sum(one["length"] for one in self._episodes)}
        keys = self.schema.to_json()["fields"]
        head = {"format": FORMAT, "nexus": version("nexus-worlds"), **self.facts}
        return {**head, "keys": keys, "counts": counts, "episodes": self._episodes}

    def _cut(self, i: int) -> None:
        """Make a file of the buffered rows of an environment."""
        part = slice(int(self._begin[i]), self._filled)
        if part.start == part.stop:
            return
        self._begin[i] = self._filled
        rows = {key: values[part, i].copy() for key, values in self._buffer.items()}
        length, ended = part.stop - part.start, bool(rows["is_last"][-1])
        name = f"{self._number:06d}-{length}.npz"
        self._number += 1
        episode = self._open[i] or {"length": 0, "return": 0.0, "terminal": False, "ended": False, "files": []}
        self._open[i] = None if ended else episode
        change = {
            "length": length, "return": float(rows["reward"].sum(dtype=np.float64)),
            "terminal": bool(rows["is_terminal"][-1]), "ended": ended,
            "file": {"file": name, "length": length},
        }  # fmt: skip
        self._pending.append((episode, change, self._writer.submit(self._write, name, rows)))
        self._settle(_WAITING)

    def _write(self, name: str, rows: Rows) -> int:
        with whole_file(self.out / name) as fresh:
            write_npz(fresh, rows, _LEVEL)
            return zlib.crc32(fresh.read_bytes())

    def _settle(self, waiting: int) -> None:
        """List the files that are written; all but `waiting` of them must be."""
        while self._pending and (len(self._pending) > waiting or self._pending[0][2].done()):
            episode, change, written = self._pending.popleft()
            try:
                file = change["file"] | {"crc32": written.result()}
            except OSError:
                self._broken = True
                self._pending.clear()  # an episode must have no gap
                raise
            if not episode["files"]:
                self._episodes.append(episode)
            episode["files"].append(file)
            episode["length"] += change["length"]
            episode["return"] += change["return"]
            episode |= {"terminal": change["terminal"], "ended": change["ended"]}

    def _stored(self) -> list[dict[str, Any]]:
        """The episodes that are there. What a killed process left is removed."""
        index = read_index(self.out)
        assert index is not None, self.out
        mine = {"keys": self.schema.to_json()["fields"], **self.facts}
        if odd := differences({name: index.get(name) for name in mine}, mine):
            name, (there, here) = next(iter(odd.items()))
            raise ValueError(
                f"{self.out} is a recording with {name}={there}, not {here}. Ask for the same to continue it, or name "
                "a new folder with --out."
            )
        episodes: list[dict[str, Any]] = index["episodes"]
        listed = {str(one["file"]) for files in files_of(index) for one in files}
        for path in [*self.out.glob("*.npz"), *self.out.glob(".*.npz")]:
            if path.name not in listed:
                with suppress(FileNotFoundError):
                    path.unlink()
        return episodes
