"""Recordings as .npz files: those of `nexus record` and `nexus replay export`, of DreamerV3, or anyone's arrays
`[T, ...]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learner.datasets.dataset import Clip, Example, UnreadableError, require_examples
from learner.datasets.folder import files_in
from learner.datasets.kept import Kept
from learner.datasets.keys import REWARDS, Keys, cut, described, example, fields_of, require_classes
from learner.datasets.view import View
from replay.counted import counted
from replay.files.npz import read_npz
from replay.step import Field, Rows

FLAGS = ("is_first", "is_last")
LABEL = "label"
_TRIED = 32  # files, to find one that can be read


class Part(NamedTuple):
    """A file with consecutive steps of a recording; 0 steps: as many as there are."""

    file: str
    steps: int = 0


class Arrays:
    """Clips of recordings, never across the end of an episode if its steps have flags.

    A recording is a file of the folder, of which a pass has one clip at a random place. Or it is the `parts` of one, in
    order, which are one episode: then a pass has as many clips of it as fit one behind the other, each at a random
    place within its share of the episode, and only the parts that a clip needs are read. Recordings known to be shorter
    than a clip are left out. The first readable file says which keys there are. `classes` has the number of classes of
    discrete keys. ValueError: there are no files, none can be read, all are shorter than a clip, or a key is missing.
    """

    live = False

    def __init__(
        self, where: Path, clip: Clip, view: View, keys: Keys | None = None, classes: Mapping[str, int] | None = None,
        parts: Sequence[Sequence[Part]] | None = None,
    ) -> None:  # fmt: skip
        self.where, self.clip, self.view = where, clip, view
        found = [[Part(file)] for file in files_in(where, [".npz"])] if parts is None else parts
        require_examples(found, ".npz files", where, "name a folder of them")
        self.recordings = [one for one in found if not _known(one) or _steps(one) >= clip.span]
        self._short = len(found) - len(self.recordings)
        if not self.recordings:
            longest = max(map(_steps, found))
            raise ValueError(
                f"{where}: a clip of {clip.frames} frames, {clip.stride} apart, spans {clip.span} steps; the longest "
                f"recording has {longest}. Ask for shorter clips."
            )
        self.files = [part.file for one in self.recordings for part in one]
        self._first = np.cumsum([0, *map(len, self.recordings)])  # file of each recording
        clips = [_steps(one) // clip.span if _known(one) else 1 for one in self.recordings]
        self._clips = np.cumsum([0, *clips])
        self.recording_of = np.repeat(np.arange(len(clips)), clips)
        """The recording of each example."""
        self._kept = Kept()
        self._names: set[str] | None = None  # all
        fields = self._first_fields()
        self.classes = {key: 2 for key, field in fields.items() if field.dtype == np.bool_} | dict(classes or {})
        self.keys = (keys or Keys()).chosen(fields, str(where))
        require_classes(self.keys, fields, self.classes, str(where))
        self.fields = {k: fields[k] for k in (self.keys.frames, *self.keys.actions, *self.keys.states) if k}
        if not self.keys.frames and not self.keys.states:
            vectors = " and no vectors of floats" if self.keys.conditions else ""
            raise ValueError(
                f"{where} has no images (uint8 [T H W] or [T H W C], C at most 4){vectors}; the keys of a step are "
                f"{described(fields)}."
            )
        self._names = {*self.fields, *REWARDS, *FLAGS, LABEL}

    def __len__(self) -> int:
        return len(self.recording_of)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        recording = int(self.recording_of[index])
        parts = self.recordings[recording]
        if _known(parts):
            first, last = self._clips[recording : recording + 2]
            share = (index - first + rng.random()) / (last - first)
            arrays, start = self._piece(recording, int(share * (_steps(parts) - self.clip.span + 1)))
        else:
            arrays, name = self._file(int(self._first[recording])), parts[0].file
            starts = self._starts(arrays)
            if not len(starts):
                raise UnreadableError(name, f"no episode in it has the {self.clip.span} steps that a clip spans")
            start = int(rng.choice(starts))
        rows = cut(arrays, self.keys, start, self.clip.frames, self.clip.stride)
        out = example(rows, self.keys, self.view, rng, self.classes)
        return out | ({"label": arrays[LABEL].astype(np.int64)} if LABEL in arrays and arrays[LABEL].ndim == 0 else {})

    def describe(self) -> str:
        frames = f", frames from {self.keys.frames!r}" if self.keys.frames else ""
        short = f", {self._short:,} shorter than a clip and left out" if self._short else ""
        clips = f"{counted(len(self), 'clip')} of {counted(len(self.recordings), 'recording')} in "
        what = clips if len(self) > len(self.recordings) else ""
        return f"{what}{counted(len(self.files), '.npz file')} in {self.where}{frames}{short}"

    def close(self) -> None:
        return None

    def _piece(self, recording: int, start: int) -> tuple[Rows, int]:
        """The files of a recording that hold the clip from step `start` on, joined, and where in them it begins."""
        parts, span = self.recordings[recording], self.clip.span
        ends = np.cumsum([part.steps for part in parts])
        first, last = (int(np.searchsorted(ends, step, side="right")) for step in (start, start + span - 1))
        pieces: list[Rows] = []
        for number in range(first, last + 1):
            arrays, part = self._file(int(self._first[recording]) + number), parts[number]
            if odd := {key: len(arrays[key]) for key in self.fields if len(arrays[key]) != part.steps}:
                raise UnreadableError(part.file, f"it has {odd} steps, not the {part.steps} of the index")
            pieces.append(arrays)
        named = [key for key in (*self.fields, *REWARDS) if key in pieces[0]]
        joined = {key: np.concatenate([one[key] for one in pieces]) for key in named} if len(pieces) > 1 else pieces[0]
        return joined, start - int(ends[first] - parts[first].steps)

    def _file(self, number: int) -> Rows:
        """The arrays of a file. UnreadableError: it is damaged, or unlike the others."""
        arrays = self._kept.get(number, self._read)
        found = fields_of(arrays)
        if odd := [key for key, field in self.fields.items() if found.get(key) != field]:
            what = f"{found[odd[0]].dtype} {list(found[odd[0]].shape)}" if odd[0] in found else "missing"
            raise UnreadableError(self.files[number], f"{odd[0]!r} is {what}, unlike in other files")
        return arrays

    def _starts(self, arrays: Rows) -> np.ndarray:
        """The steps at which a clip may start."""
        steps, span = len(arrays[self.keys.frames or self.keys.states[0]]), self.clip.span
        starts = np.arange(max(0, steps - span + 1))
        if all(key in arrays and len(arrays[key]) == steps for key in FLAGS):
            breaks = np.cumsum(np.append(arrays["is_last"][:-1] | arrays["is_first"][1:], False))
            episode = np.concatenate([[0], breaks[:-1]])
            starts = starts[episode[starts] == episode[starts + span - 1]]
        return starts

    def _read(self, index: int) -> Rows:
        try:
            return read_npz(Path(self.files[index]), self._names)
        except ValueError as error:
            raise UnreadableError(self.files[index], str(error).split("episodes: ")[-1]) from error

    def _first_fields(self) -> dict[str, Field]:
        failed: list[UnreadableError] = []
        for index in range(min(_TRIED, len(self.files))):
            try:
                return fields_of(self._read(index))
            except UnreadableError as error:
                failed.append(error)
        raise ValueError(f"None of the first {len(failed)} files in {self.where} can be read: {failed[0]}.")


def _known(recording: Sequence[Part]) -> bool:
    return all(part.steps for part in recording)


def _steps(recording: Sequence[Part]) -> int:
    return sum(part.steps for part in recording)
