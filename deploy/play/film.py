"""What a player sees, as an MP4 in memory."""

from fractions import Fraction
from io import BytesIO

import numpy as np

from actors.video import SMALLEST
from learner.datasets.videos import require_av

LONGEST = 36_000  # frames: an hour at ten a second


class Film:
    """H.264, written as frames come; small pictures are enlarged by a whole factor. ValueError: PyAV is missing."""

    def __init__(self, fps: int) -> None:
        self._av = require_av("MP4s of played worlds")
        self._file = BytesIO()
        self._container = self._av.open(self._file, "w", format="mp4")
        self._stream = self._container.add_stream("libx264", Fraction(fps), options={"crf": "15"})
        self._stream.pix_fmt, self._stream.codec_context.thread_count = "yuv420p", 1
        self.frames = 0
        self.full = False
        """Whether frames have been left out."""

    def add(self, frame: np.ndarray) -> None:
        """A frame uint8 `[H W C]`, all of one size; those after the longest film's are left out."""
        if self.frames >= LONGEST:
            self.full = True
            return
        factor = max(1, -(-SMALLEST // min(frame.shape[:2])))
        picture = frame.repeat(factor, 0).repeat(factor, 1)
        height, width = (size - size % 2 for size in picture.shape[:2])  # H.264 halves the colour planes
        if not self.frames:
            self._stream.height, self._stream.width = height, width
        picture = np.broadcast_to(picture[:height, :width], (height, width, 3))
        shown = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(shown))
        self.frames += 1

    def finish(self) -> bytes:
        """The file; empty if it has no frames."""
        if self.frames:
            self._container.mux(self._stream.encode())
        self._container.close()
        return self._file.getvalue() if self.frames else b""
