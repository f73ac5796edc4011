"""Videos of episodes: MP4 (H.264) or GIF, by the file's name."""

import errno
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from replay.errors import NexusError
from replay.files.whole_file import whole_file

SMALLEST = 256  # pixels; smaller pictures are enlarged by a whole factor


def require_video_name(path: Path) -> None:
    """Raises ValueError unless the suffix is one of a supported format."""
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"A video named {path.name!r} has no supported format; name it .mp4 or .gif.")


def write_video(path: str | Path, frames: Sequence[np.ndarray], fps: int = 30, *, seekable: bool = False) -> Path:
    """Write uint8 pictures [H W 3] of one size as `.mp4` or `.gif`; returns the path.

    `seekable`: every frame of an `.mp4` is a key frame, so that a player shows any of them at once.

    Raises ValueError for another suffix or no pictures, OSError if the file cannot be written, NexusError if ffmpeg
    fails. The file is complete or absent.
    """
    path = Path(path)
    require_video_name(path)
    if not len(frames):
        raise ValueError(f"There are no frames to write to {path}; record at least one step.")
    factor = max(1, -(-SMALLEST // min(frames[0].shape[:2])))
    pictures = [frame.repeat(factor, 0).repeat(factor, 1) for frame in frames]
    with whole_file(path) as fresh:
        if path.suffix == ".mp4":
            _write_mp4(fresh, pictures, fps, seekable)
        else:
            _write_gif(fresh, pictures, fps)
    return path


def _write_mp4(path: Path, frames: list[np.ndarray], fps: int, seekable: bool) -> None:
    from imageio_ffmpeg import get_ffmpeg_exe

    height, width = (size - size % 2 for size in frames[0].shape[:2])  # H.264 halves the colour planes
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps}", "-i", "-"]
    encoding = ["-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    encoding += ["-g", "1", "-crf", "20"] if seekable else ["-crf", "15"]
    command = [get_ffmpeg_exe(), "-v", "error", "-y", *source, *encoding, str(path.absolute())]
    with (
        TemporaryFile() as said,
        subprocess.Popen(  # in its own process group, out of reach of Ctrl-C
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, process_group=0
        ) as ffmpeg,
    ):
        assert ffmpeg.stdin
        with suppress(BrokenPipeError):  # it has exited; standard error says why
            for frame in frames:
                ffmpeg.stdin.write(np.ascontiguousarray(frame[:height, :width]).data)
            ffmpeg.stdin.close()
        if ffmpeg.wait():
            said.seek(0)
            why = said.read().decode(errors="replace").strip()
            if "No space left" in why:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise NexusError(f"ffmpeg exited with code {ffmpeg.returncode}: {why or 'no reason given'}")


def _write_gif(path: Path, frames: list[np.ndarray], fps: int) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    # GIF counts in hundredths of a second, and viewers slow down anything below two.
    duration = max(20, round(100 / fps) * 10)
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0)
