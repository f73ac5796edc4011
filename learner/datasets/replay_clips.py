"""Clips from stored replay: of a run, also while it writes, a disk replay, or Redis servers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing

import numpy as np

from learner.datasets.dataset import Clip, Example
from learner.datasets.keys import REWARD, Keys, example, require_classes
from learner.datasets.view import View
from replay.counted import counted
from replay.reading.clips import Clips
from replay.reading.reader import Reader


class ReplayClips:
    """Clips of the shards that `open` opens, drawn uniformly: the index of an example means nothing.

    `classes` has the number of classes of discrete keys; `note` is told of what is damaged. ValueError: a key is
    missing, or episodes are too short.
    """

    live = True

    def __init__(
        self, open: Callable[[], Sequence[Reader]], clip: Clip, view: View, keys: Keys | None = None,
        classes: Mapping[str, int] | None = None, note: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        with ExitStack() as stack:
            readers = [stack.enter_context(closing(reader)) for reader in open()]
            fields, where = readers[0].schema.fields, readers[0].where
        self.clip, self.view = clip, view
        self.classes = {key: 2 for key, field in fields.items() if field.dtype == np.bool_} | dict(classes or {})
        self.keys = (keys or Keys()).chosen(fields, where)
        require_classes(self.keys, fields, self.classes, where)
        named = [key for key in (self.keys.frames, *self.keys.states) if key]
        rewards = [REWARD] if REWARD in fields else []
        self.clips = Clips(
            open, named, leaving=self.keys.actions, arriving=rewards, frames=clip.frames, stride=clip.stride, note=note
        )
        try:
            self.clips.draw(np.random.default_rng(0))  # episodes that are too short are reported here
        except ValueError:
            self.clips.close()
            raise

    def __len__(self) -> int:
        return max(1, len(self.clips))

    def example(self, index: int, rng: np.random.Generator) -> Example:
        return example(self.clips.draw(rng), self.keys, self.view, rng, self.classes)

    def describe(self) -> str:
        frames = f", frames from {self.keys.frames!r}" if self.keys.frames else ""
        return f"{counted(len(self.clips), 'clip')} of {self.clip.span} steps in the replay {self.clips.where}{frames}"

    def close(self) -> None:
        self.clips.close()
