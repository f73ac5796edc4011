"""A disk that fills while a picture, a video or points are written: one line, what was there before stays."""

import errno
from pathlib import Path

import numpy as np
import pytest

from actors.video import write_video
from deploy.cli import main
from tests.deploy.reports.test_curves import make_run
from tests.small_disk import fill, small_disk


def test_a_video_or_picture_appears_whole_or_not_at_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    disk, rng = tmp_path / "disk", np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (20, 256, 256, 3), dtype=np.uint8))
    run = make_run(tmp_path / "run", scores=(1, 2))
    with small_disk(disk, 1):
        for name in ("old.mp4", "old.gif", "old.png", "old.json"):
            (disk / name).write_text("of before")
        fill(disk)
        for name in ("old.mp4", "old.gif", "new.mp4"):
            with pytest.raises(OSError, match="No space left on device") as caught:
                write_video(disk / name, frames)
            assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(disk / name))
        for options, name in (
            ([], "old.png"), (["--export", str(disk / "old.json")], "old.json"),
        ):  # fmt: skip
            with pytest.raises(SystemExit) as ended:
                main(["plot", str(run), "--out", str(disk / "old.png"), *options])
            out, error = capfd.readouterr()
            remedy = "Free some space, or write somewhere else."
            assert error == f"nexus plot failed: {disk / name}: No space left on device. {remedy}\n", out
            assert ended.value.code == 1
        left = {path.name: path.read_bytes() for path in disk.iterdir() if path.name != "rest"}
    assert left == dict.fromkeys(("old.mp4", "old.gif", "old.png", "old.json"), b"of before")
