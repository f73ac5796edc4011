"""A folder of pictures."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from learner.datasets.dataset import Clip, Example, UnreadableError, require_examples
from learner.datasets.folder import classes_of, files_in
from learner.datasets.view import View
from replay.counted import counted

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)  # what Pillow's readers raise on damaged files


class Images:
    """The pictures in a folder and its subfolders, which are their classes if there are several. `label` is then the
    number of the class in alphabetical order. ValueError: there are none, or a clip of several frames is wanted."""

    live = False

    def __init__(self, where: Path, clip: Clip, view: View) -> None:
        if clip.frames != 1:
            raise ValueError(
                f"{where} holds pictures, which are clips of 1 frame; {clip.frames} frames were asked for."
            )
        self.where, self.view = where, view
        self.files = files_in(where, SUFFIXES)
        require_examples(self.files, "pictures", where, f"allowed are {' '.join(SUFFIXES)}")
        self.classes, self._labels = classes_of(where, self.files) or ([], [])

    def __len__(self) -> int:
        return len(self.files)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        file = self.files[index]
        try:
            with Image.open(file) as image:
                out = {"frames": self.view.image(image, rng)}
        except DAMAGE as error:
            raise UnreadableError(file, str(error) or type(error).__name__) from error
        return out | ({"label": np.asarray(self._labels[index], np.int64)} if self._labels else {})

    def describe(self) -> str:
        classes = f" of {counted(len(self.classes), 'class', 'classes')}" if self.classes else ""
        return f"{counted(len(self), 'picture')}{classes} in {self.where}"

    def close(self) -> None:
        return None
