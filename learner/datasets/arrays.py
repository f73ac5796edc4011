"""Recordings as .npz files, one each: those of `nexus replay export`, of DreamerV3, or anyone's arrays `[T, ...]`."""

from collections.abc import Mapping
from pathlib import Path

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


class Arrays:
    """One clip of each file per pass, at a random place, and never across the end of an episode if the file has flags.

    The first readable file says which keys there are. `classes` has the number of classes of discrete keys. ValueError:
    there are no files, none can be read, or a key is missing.
    """

    live = False

    def __init__(
        self, where: Path, clip: Clip, view: View, keys: Keys | None = None, classes: Mapping[str, int] | None = None
    ) -> None:
        self.where, self.clip, self.view = where, clip, view
        self.files = files_in(where, [".npz"])
        require_examples(self.files, ".npz files", where, "name a folder of them")
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
        return len(self.files)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        arrays, name = self._kept.get(index, self._read), self.files[index]
        found = fields_of(arrays)
        if odd := [key for key, field in self.fields.items() if found.get(key) != field]:
            what = f"{found[odd[0]].dtype} {list(found[odd[0]].shape)}" if odd[0] in found else "missing"
            raise UnreadableError(name, f"{odd[0]!r} is {what}, unlike in other files")
        starts = self._starts(arrays)
        if not len(starts):
            raise UnreadableError(name, f"no episode in it has the {self.clip.span} steps that a clip spans")
        rows = cut(arrays, self.keys, int(rng.choice(starts)), self.clip.frames, self.clip.stride)
        out = example(rows, self.keys, self.view, rng, self.classes)
        return out | ({"label": arrays[LABEL].astype(np.int64)} if LABEL in arrays and arrays[LABEL].ndim == 0 else {})

    def describe(self) -> str:
        frames = f", frames from {self.keys.frames!r}" if self.keys.frames else ""
        return f"{counted(len(self), '.npz file')} in {self.where}{frames}"

    def close(self) -> None:
        return None

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
