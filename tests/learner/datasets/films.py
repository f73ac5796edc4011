"""Small videos whose frames say which they are."""

from pathlib import Path

import av
import numpy as np

_BITS = 6
SIZE = 8 * _BITS  # pixels


def bars(number: int) -> np.ndarray:
    """A picture `[48 48 3]` of a number below 64: one bar for each bit, dark or bright."""
    bits = number >> np.arange(_BITS) & 1
    return np.broadcast_to((40 + 160 * bits).repeat(8)[None, :, None], (SIZE, SIZE, 3)).astype(np.uint8)


def film(file: Path, frames: int, rate: int = 10, codec: str = "mpeg4", first: int = 0) -> None:
    """A video of the numbers from `first` on, with a keyframe every 6 frames."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 6
        for i in range(first, first + frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bars(i), format="rgb24")))
        container.mux(stream.encode())


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames `[T S S 3]` show, not mirrored."""
    width = frames.shape[2]
    middles = ((np.arange(_BITS) + 0.5) * width / _BITS).astype(int)
    bits = frames.mean((1, 3))[:, middles] > 120
    return (bits << np.arange(_BITS)).sum(1).tolist()
