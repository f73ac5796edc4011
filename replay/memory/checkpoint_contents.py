"""What a memory store's checkpoint consists of.

    index.json                 settings, schema, counters, size and CRC-32 of every other file, CRC-32 of itself
    state.safetensors          streams, chunks and the online queue
    rows-N.safetensors         steps, with `__spans__` `[k 3]`: stream, first step, number of steps
    latents-N.safetensors      the same for latents; if several files have a step's, the one with the highest N counts
    priorities-N.safetensors   the same for priorities, if the store samples by them
    items-N.safetensors        keys of items in their order, and the number of the first one among all items ever

N keeps counting from checkpoint to checkpoint: each writes what is new or has changed, and hard-links the older files.
In the first format whole chunks lay in sealed-N, open-N (rows) and latents-N, in the order of the state's chunks.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from replay.step import Rows

FORMAT, _FIRST_FORMAT = "nexus-replay-2", "nexus-replay-1"
FORMATS = (FORMAT, _FIRST_FORMAT)
STATE = "state.safetensors"
SPANS, FIRST = "__spans__", "first"  # in files of steps beside their keys, in files of items
_EVICTED = (-1, 0)  # no stream has this number


class File(NamedTuple):
    """A file of steps or items."""

    name: str
    kind: str
    number: int


def file_name(kind: str, number: int) -> str:
    """Rows, latents, priorities or items."""
    return f"{kind}-{number}.safetensors"


class Contents:
    """Which file has which steps; `content` is the index.json, `state` the arrays of the state."""

    def __init__(self, content: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> None:
        self.in_chunks = content["format"] == _FIRST_FORMAT
        """Arrays are `[chunks, C, ...]`, as in the first format, not `[steps, ...]`."""
        names = (name.removesuffix(".safetensors").split("-") for name in content["files"] if name != STATE)
        self.files = [File(file_name(kind, int(number)), kind, int(number)) for kind, number in names]
        self.files.sort(key=lambda file: file.number)
        self._chunk_length = int(content["settings"]["chunk_length"])
        if self.in_chunks:
            chunks = list(map(tuple, state["chunks"].tolist()))
            self._sealed = {(number, row): (s, chunk) for s, chunk, number, row in state["sealed"].tolist()}
            sealed = set(self._sealed.values())
            self._others = {"open": iter([id for id in chunks if id not in sealed]), "latents": iter(chunks)}

    def of(self, kind: str) -> list[File]:
        """Files of rows, latents, priorities or items, in the order in which they take effect."""
        kinds = {"rows": ("sealed", "open")}.get(kind, (kind,)) if self.in_chunks else (kind,)
        return [file for file in self.files if file.kind in kinds]

    def spans(self, file: File, arrays: Rows) -> np.ndarray:
        """Stream, first step and number of steps `[k 3]` of the rows of a file with these arrays; removes the spans
        from the arrays. To be called once for each file, in order."""
        if not self.in_chunks:
            return arrays.pop(SPANS)
        return self.chunks(file, len(next(iter(arrays.values()))))

    def chunks(self, file: File, n: int | None) -> np.ndarray:
        """The same for a file of the first format with n chunks; None, if it is damaged: all that may be in it."""
        if file.kind == "sealed":
            rows = [row for number, row in self._sealed if number == file.number]
            chunks = [self._sealed.get((file.number, row), _EVICTED) for row in range(max(rows, default=-1) + 1)]
        else:
            chunks = list(islice(self._others[file.kind], n))
        length = self._chunk_length
        return np.array([(stream, chunk * length, length) for stream, chunk in chunks], np.int64).reshape(-1, 3)

    def by_step(self, arrays: Rows) -> Rows:
        """`[steps, ...]` in either format."""
        return {key: value.reshape(-1, *value.shape[2:]) for key, value in arrays.items()} if self.in_chunks else arrays
