"""Open-loop reports of a run: metrics for the log, pictures in `videos/`."""

from collections.abc import Callable
from pathlib import Path

from actors.video import write_video
from deploy.reports.open_loop_files import FPS, KEEP, picture_name
from deploy.wiring.config import RunConfig
from learner.checkpoint import disk_is_full
from learner.learner import Learner
from learner.open_loop import report_open_loop
from learner.open_loop_report import OpenLoopReport
from replay.errors import NexusError
from replay.files.whole_file import whole_file


def open_loop_due(config: RunConfig, updates: int) -> bool:
    """Whether the metrics line at `updates` includes a report: it is the first line at or after a multiple of
    `report_every`. No pending report has to be remembered between lines, or saved in a checkpoint."""
    every, line = config.report_every, config.log_every
    return every > 0 and updates % line == 0 and updates // every > (updates - line) // every


def open_loop_metrics(
    learner: Learner, config: RunConfig, logdir: Path, note: Callable[[str], None]
) -> dict[str, float]:
    """Metrics `report/openloop_*` of the learner's current state; also writes the pictures. If that fails, `note` is
    told why and the run continues, except that a full disk raises OSError."""
    report = report_open_loop(learner)
    try:
        write_pictures(report, logdir / "videos", config.task)
    except (OSError, RuntimeError, NexusError) as error:  # imageio raises RuntimeError if it finds no ffmpeg
        if isinstance(error, OSError) and disk_is_full(error):
            raise
        note(f"No pictures of the open-loop report at update {report.updates:,}: {error}")
    return report.metrics()


def write_pictures(report: OpenLoopReport, folder: Path, title: str, keep: int = KEEP) -> list[Path]:
    """Write `openloop-<updates>.mp4` (if a key is an image) and `.png`, each complete or absent; remove all but the
    newest `keep` of each. Raises OSError if they cannot be written."""
    # Imported here: matplotlib loads slowly, and most processes never draw.
    from deploy.reports.open_loop_figure import open_loop_figure
    from deploy.reports.open_loop_video import video_frames

    stem = folder / picture_name(report.updates)
    figure = stem.with_suffix(".png")
    with whole_file(figure) as fresh:
        open_loop_figure(report, title).savefig(fresh, dpi=110, facecolor="white")
    written = [figure]
    if frames := video_frames(report, title):
        written.append(write_video(stem.with_suffix(".mp4"), frames, FPS, seekable=True))
    for path in written:
        for old in sorted(folder.glob(f"openloop-*{path.suffix}"))[:-keep]:
            old.unlink(missing_ok=True)
    return written
