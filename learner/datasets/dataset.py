"""The contract of every source of images and clips. Legend: T frames, S pixels a side, C channels, s stride, A, D
widths of one action and one state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Example = dict[str, np.ndarray]
"""`frames` uint8 `[T S S C]` (an image: T = 1), `actions` float32 `[T-1 s*A]`: all that were taken between two frames,
`states` float32 `[T D]`, `rewards` float32 `[T]`, `label` int64 `[]`; whichever the source has."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The frames of an example: `frames` of them, each `stride` steps after the one before."""

    frames: int = 1
    stride: int = 1
    fps: float = 0.0
    """If positive, the stride of a video or robot recording is such that this many frames are seen per second."""

    def __post_init__(self) -> None:
        for name, value in (("frames", self.frames), ("stride", self.stride)):
            if value < 1:
                raise ValueError(f"A clip's {name} must be 1 or more, got {value}.")
        if not self.fps >= 0:
            raise ValueError(f"A clip's fps must be 0 (every `stride`-th frame) or positive, got {self.fps}.")

    @property
    def span(self) -> int:
        """Steps from the first frame to the last, both counted."""
        return (self.frames - 1) * self.stride + 1

    def at_rate(self, rate: float) -> "Clip":
        """This clip of a recording with `rate` frames per second, its stride given by `fps`."""
        return Clip(frames=self.frames, stride=max(1, round(rate / self.fps))) if self.fps and rate else self


class UnreadableError(ValueError):
    """`name` cannot be read, or has nothing to take an example from; another example takes its place."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Dataset(Protocol):
    """Numbered examples. Methods may be called from several threads."""

    @property
    def live(self) -> bool:
        """Whether the content may change while it is read: numbers of examples then mean nothing."""
        ...

    def __len__(self) -> int:
        """Number of examples of one pass, at least 1."""
        ...

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """Example `index`; its place in the recording, crop and flip are drawn from `rng`. UnreadableError."""
        ...

    def describe(self) -> str:
        """One line for the user: what was found, and how much of it."""
        ...

    def close(self) -> None: ...


def require_examples(found: Sequence[object], what: str, where: object, remedy: str) -> None:
    """ValueError if nothing was found."""
    if not found:
        raise ValueError(f"{where} holds no {what}; {remedy}.")
