"""Videos of episodes: MP4 (H.264) or GIF, by the file's name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

SMALLEST = 256  # pixels; smaller pictures are enlarged by a whole factor


def require_video_name(path: Path) -> None:
    """Raises ValueError unless the suffix is one that can be written."""
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"A video named {path.name!r} has no known format; name it .mp4 or .gif.")


def write_video(path: str | Path, frames: Sequence[np.ndarray], fps: int = 30) -> Path:
    """Write uint8 pictures [H W 3] of one size as `.mp4` or `.gif`; returns the path.

    Raises ValueError for another suffix or no pictures. The file appears whole or not at all.
    """
    path = Path(path)
    require_video_name(path)
    if not len(frames):
        raise ValueError(f"There are no pictures to write to {path}; record at least one step.")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.stem}.new{path.suffix}")
    factor = max(1, -(-SMALLEST // min(frames[0].shape[:2])))
    pictures = [frame.repeat(factor, 0).repeat(factor, 1) for frame in frames]
    try:
        (_write_mp4 if path.suffix == ".mp4" else _write_gif)(fresh, pictures, fps)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _write_mp4(path: Path, frames: list[np.ndarray], fps: int) -> None:
    from imageio_ffmpeg import write_frames

    height, width = (size - size % 2 for size in frames[0].shape[:2])  # H.264 halves the colour planes
    writer = write_frames(str(path), (width, height), fps=fps, codec="libx264", quality=7, macro_block_size=1)
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame[:height, :width]))
    finally:
        writer.close()


def _write_gif(path: Path, frames: list[np.ndarray], fps: int) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    # GIF counts hundredths of a second, and viewers slow down anything below two of them.
    duration = max(20, round(100 / fps) * 10)
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0)
