"""Videos as folders of numbered pictures."""

import re
from itertools import groupby
from os.path import dirname
from pathlib import Path

import numpy as np
from PIL import Image

from learner.datasets.dataset import Clip, Example, UnreadableError, require_examples
from learner.datasets.folder import classes_of, files_in
from learner.datasets.images import DAMAGE, SUFFIXES
from learner.datasets.view import View
from replay.counted import counted


class ImageSequences:
    """The folders in `where` that hold pictures, itself or below it: each is a video, its pictures the frames in the
    order of the numbers in their names. One clip of each per pass, at a random place. ValueError: there are none, or
    all are shorter than a clip."""

    live = False

    def __init__(self, where: Path, clip: Clip, view: View) -> None:
        self.where, self.clip, self.view = where, clip, view
        files = sorted(files_in(where, SUFFIXES), key=lambda file: (dirname(file), _numbered(file)))
        self.sequences = [list(group) for _, group in groupby(files, dirname)]
        require_examples(self.sequences, "pictures", where, f"allowed are {' '.join(SUFFIXES)}")
        folders = [dirname(group[0]) for group in self.sequences]
        self.classes, self._labels = classes_of(where, folders) or ([], [])
        if (longest := max(map(len, self.sequences))) < clip.span:
            raise ValueError(
                f"{where} holds pictures; those of a folder are taken for the frames of a video, of which a clip spans "
                f"{clip.span}, and no folder has more than {longest}. Name videos, or ask for shorter clips."
            )

    def __len__(self) -> int:
        return len(self.sequences)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        files, span = self.sequences[index], self.clip.span
        if len(files) < span:
            reason = f"it has {counted(len(files), 'picture')}, fewer than the {span} that a clip spans"
            raise UnreadableError(dirname(files[0]), reason)
        first = int(rng.integers(len(files) - span + 1))
        frames = [_read(file) for file in files[first : first + span : self.clip.stride]]
        if len(sizes := {f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames}) > 1:
            raise UnreadableError(dirname(files[0]), f"its pictures differ in size: {', '.join(sorted(sizes))}")
        out = {"frames": self.view(np.stack(frames), rng)}
        return out | ({"label": np.asarray(self._labels[index], np.int64)} if self._labels else {})

    def describe(self) -> str:
        classes = f" of {counted(len(self.classes), 'class', 'classes')}" if self.classes else ""
        return f"{counted(len(self), 'folder')} of pictures, each a video,{classes} in {self.where}"

    def close(self) -> None:
        return None


def _read(file: str) -> np.ndarray:
    """RGB `[H W 3]`."""
    try:
        with Image.open(file) as image:
            return View().image(image, np.random.default_rng(0))[0]
    except DAMAGE as error:
        raise UnreadableError(file, str(error) or type(error).__name__) from error


def _numbered(file: str) -> list[tuple[int, str]]:
    """A key that sorts 2.png before 10.png."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file)]
