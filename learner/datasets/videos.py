"""Video files, decoded by PyAV (FFmpeg)."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from learner.datasets.dataset import Clip, Example, UnreadableError, require_examples
from learner.datasets.folder import classes_of, files_in
from learner.datasets.view import View
from replay.counted import counted

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")


def require_av(what: str = "Videos", extra: str = "video") -> ModuleType:
    """PyAV. Raises ValueError saying how to install it if it is missing."""
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f"{what} need the package av, which is missing ({error}): pip install av, or pip install "
            f"'nexus-worlds[{extra}]'."
        ) from error
    return av


class Videos:
    """The videos in a folder and its subfolders, which are their classes if there are several: one clip of each video
    per pass, at a random place. ValueError: there are none, or PyAV is missing."""

    live = False

    def __init__(self, where: Path, clip: Clip, view: View) -> None:
        require_av()
        self.where, self.clip, self.view = where, clip, view
        self.files = files_in(where, SUFFIXES)
        require_examples(self.files, "videos", where, f"allowed are {' '.join(SUFFIXES)}")
        self.classes, self._labels = classes_of(where, self.files) or ([], [])

    def __len__(self) -> int:
        return len(self.files)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        with Video(self.files[index]) as video:
            clip = self.clip.at_rate(video.rate)
            if clip.span > video.frames:
                raise UnreadableError(
                    video.name, f"it has {counted(video.frames, 'frame')}, fewer than the {clip.span} that a clip spans"
                )
            first = int(rng.integers(video.frames - clip.span + 1))
            wanted = range(first, first + clip.span, clip.stride)
            out = {"frames": self.view(video.read(wanted), rng)}
        return out | ({"label": np.asarray(self._labels[index], np.int64)} if self._labels else {})

    def describe(self) -> str:
        classes = f" of {counted(len(self.classes), 'class', 'classes')}" if self.classes else ""
        return f"{counted(len(self), 'video')}{classes} in {self.where}"

    def close(self) -> None:
        return None


class Video:
    """One video file, open. UnreadableError, from any method: it is damaged or no video."""

    def __init__(self, file: Path | str) -> None:
        self._av, self.name = require_av(), str(file)
        try:
            self._container: Any = self._av.open(self.name)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise UnreadableError(self.name, _reason(error)) from error
        if not self._container.streams.video:
            self.close()
            raise UnreadableError(self.name, "it has no pictures")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1  # examples are read in parallel
        self.rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        """Frames per second."""
        if not self.rate:
            self.close()
            raise UnreadableError(self.name, "its frame rate is not recorded")
        self.frames = int(self._stream.frames) or round(self._seconds() * self.rate) or self._counted()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """RGB frames uint8 `[H W 3]` with these numbers, ascending; for one that was dropped, its successor."""
        try:
            yield from self._decoded(list(wanted))
        except (self._av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, UnreadableError):
                raise
            raise UnreadableError(self.name, _reason(error)) from error

    def close(self) -> None:
        """Close the file."""
        with suppress(self._av.FFmpegError):
            self._container.close()

    def _decoded(self, wanted: list[int]) -> Iterator[np.ndarray]:
        base, begin = self._stream.time_base, self._stream.start_time or 0
        if wanted[0]:
            self._container.seek(begin + int(wanted[0] / self.rate / base), stream=self._stream)
        number, last = 0, None
        for frame in self._container.decode(self._stream):
            if frame.pts is None:
                continue
            at = round(float((frame.pts - begin) * base) * self.rate)
            last = at
            picture = None
            while number < len(wanted) and wanted[number] <= at:
                picture = frame.to_ndarray(format="rgb24") if picture is None else picture
                yield picture
                number += 1
            if number == len(wanted):
                return
        raise UnreadableError(self.name, f"it ends at frame {last}, before frame {wanted[number]} of {self.frames}")

    def _counted(self) -> int:
        """The frames of a file that says nothing of its length, as those from browsers and broken-off recordings."""
        try:
            count = sum(packet.size > 0 for packet in self._container.demux(self._stream))
            self._container.seek(0)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self.close()
            raise UnreadableError(self.name, _reason(error)) from error
        return count

    def _seconds(self) -> float:
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return (self._container.duration or 0) / self._av.time_base


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
