"""Open-loop reports: what the numbers mean, what the pictures show, and that a run is not disturbed by them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import read_frames
from PIL import Image, ImageColor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deploy.reports.open_loop import open_loop_due, write_pictures
from deploy.reports.open_loop_figure import dimensions, open_loop_figure
from deploy.reports.open_loop_files import FPS
from deploy.reports.open_loop_video import _BROKEN, _CONTEXT, _OPEN, BORDER, GUTTER, HEADER, TILE, video_frames
from deploy.wiring.config import RunConfig
from learner.open_loop_report import OpenLoopReport
from replay.step import Rows
from tests.integration.runs import MY_MODULE, checkpoints, command, differences, lines, run, state_of
from world_models.space import Space

ROWS, TIME, CONTEXT, SIZE = 4, 24, 8, 16
SPACE = {
    "camera": Space(dtype=np.dtype(np.uint8), shape=(SIZE, SIZE, 3)),
    "joints": Space(dtype=np.dtype(np.float32), shape=(2, 5)),
    "mode": Space(dtype=np.dtype(np.int32), shape=(), classes=3),
}


def report(updates: int = 12_500) -> OpenLoopReport:
    """Exact in the context; then wrong by 0.01 more at each step."""
    rng = np.random.default_rng(0)
    wrong = 0.01 * np.maximum(0, np.arange(TIME) - CONTEXT + 1)  # [T]
    truth: Rows = {
        "camera": rng.integers(0, 128, (ROWS, TIME, SIZE, SIZE, 3)).astype(np.uint8),
        "joints": rng.standard_normal((ROWS, TIME, 2, 5)).astype(np.float32),
        "mode": rng.integers(0, 3, (ROWS, TIME)).astype(np.int32),
        "reward": rng.standard_normal((ROWS, TIME)).astype(np.float32),
    }
    truth["joints"][..., 1, 3] = 0  # the one dimension that never moves
    prediction = {key: value.copy() for key, value in truth.items()}
    prediction["camera"] += (255 * wrong[:, None, None, None]).round().astype(np.uint8)
    prediction["joints"] += wrong[:, None, None].astype(np.float32)
    error = {key: np.broadcast_to(wrong, (ROWS, TIME)).copy() for key in truth}
    return OpenLoopReport(
        updates=updates, context=CONTEXT, space=SPACE, truth=truth, prediction=prediction, error=error,
        still={key: 2 * value for key, value in error.items()}, valid=np.ones((ROWS, TIME), bool),
    )  # fmt: skip


def broken() -> OpenLoopReport:
    """Sequence 0 is cut two steps after the context by a new episode, after which all is wrong."""
    whole = report()
    whole.valid[0, CONTEXT + 2 :] = False
    for errors in whole.error.values():
        errors[0, CONTEXT + 2 :] = 1000
    return whole


def test_numbers() -> None:
    numbers = report().metrics()
    assert {key.split("openloop_")[1].split("/")[0] for key in numbers} == {*SPACE, "reward"}
    mean = 0.01 * np.mean(np.arange(1, 17))
    expected = {"": mean, "/still": 2 * mean, "/step_1": 0.01, "/step_5": 0.05, "/step_15": 0.15, "/last": 0.16}
    got = {key.removeprefix("report/openloop_camera"): value for key, value in numbers.items() if "camera" in key}
    assert got == pytest.approx(expected)


def test_what_follows_a_new_episode_does_not_count() -> None:
    numbers = broken().metrics()
    assert numbers["report/openloop_joints/last"] == pytest.approx(0.16)
    assert numbers["report/openloop_joints"] == pytest.approx(0.01 * (3 * 136 + 1 + 2) / (3 * 16 + 2))
    none = report()
    none.valid[:, CONTEXT:] = False
    assert none.metrics() == {}
    assert np.isnan(none.horizon(none.error["joints"])).all()


def test_the_video_shows_truth_prediction_and_error_and_marks_the_context() -> None:
    shown = broken()
    frames = video_frames(shown, "a task")
    assert len(frames) == TIME + FPS and {frame.shape for frame in frames} == {frames[0].shape}
    assert all(size % 2 == 0 for size in frames[0].shape[:2])
    step = TILE + 2 * BORDER + 10  # from one tile to the next

    def tile(frame: int, row: int, column: int) -> np.ndarray:
        """Inside of a tile, scaled back."""
        y, x = HEADER + row * step + BORDER, GUTTER + column * step + BORDER
        return frames[frame][y : y + TILE, x : x + TILE][:: TILE // SIZE, :: TILE // SIZE]

    def border(frame: int, column: int) -> tuple[int, ...]:
        return tuple(int(v) for v in frames[frame][HEADER + 1, GUTTER + column * step + 40])

    order = [1, 2, 3, 0]  # the broken sequence comes last
    for time in (0, CONTEXT - 1, CONTEXT, TIME - 1):
        for column, sequence in enumerate(order):
            np.testing.assert_array_equal(tile(time, 0, column), shown.truth["camera"][sequence, time])
            if shown.valid[sequence, time]:
                np.testing.assert_array_equal(tile(time, 1, column), shown.prediction["camera"][sequence, time])
    colours = {name: ImageColor.getrgb(name) for name in (_CONTEXT, _OPEN, _BROKEN)}
    assert [border(t, 0) for t in range(TIME)] == [colours[_CONTEXT]] * CONTEXT + [colours[_OPEN]] * (TIME - CONTEXT)
    assert border(CONTEXT + 1, 3) == colours[_OPEN] and border(CONTEXT + 2, 3) == colours[_BROKEN]
    assert not np.array_equal(tile(TIME - 1, 1, 3), shown.prediction["camera"][0, TIME - 1])
    # No error is black; it brightens as the error grows.
    brightness = [int(tile(t, 2, 0).sum()) for t in (0, CONTEXT, CONTEXT + 6, TIME - 1)]
    assert tile(0, 2, 0).max() <= 4 and brightness == sorted(set(brightness))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 9])
def test_any_number_of_channels(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (ROWS, TIME, 48, 80, channels)).astype(np.uint8)
    one = report()
    space = {"camera": Space(dtype=np.dtype(np.uint8), shape=images.shape[2:])}
    odd = replace(
        one, space=space, truth=one.truth | {"camera": images}, prediction=one.prediction | {"camera": images}
    )
    tile = video_frames(odd, "")[3][HEADER + BORDER :, GUTTER + BORDER :][: 2 * 48 : 2, : 2 * 80 : 2]
    expected = images[0, 3][..., -3:] if channels % 3 == 0 else images[0, 3].mean(-1, keepdims=True).astype(np.uint8)
    np.testing.assert_array_equal(tile, np.broadcast_to(expected, tile.shape))


def test_the_figure_draws_what_moves() -> None:
    every = dimensions(report())
    assert [d.name for d in every] == [*(f"joints[{i},{j}]" for i in range(2) for j in range(5)), "mode", "reward"]
    figure = open_loop_figure(broken(), "a task")
    words = [text.get_text() for text in figure.texts]
    assert "joints[1,3]" not in words and words[7] == "reward" and "mode" in words[:7]
    assert any("8 of 12 dimensions" in word for word in words)
    truth, seen, ahead = (np.asarray(line.get_xydata()) for line in figure.axes[0].lines)  # [T 2]
    assert truth[CONTEXT - 1, 0] == 0
    np.testing.assert_allclose(seen, truth[:CONTEXT])
    # The orange line starts at the context's last step, and leaves the truth by 0.01 a step.
    np.testing.assert_allclose(ahead[:, 1] - truth[CONTEXT - 1 :, 1], 0.01 * np.arange(17), atol=1e-6)
    error = np.asarray(figure.axes[3].lines[0].get_ydata())
    np.testing.assert_allclose(error, 0.01 * np.arange(1, 17), atol=1e-6)


def test_keys_take_turns_though_one_has_thousands_of_dimensions_that_move_alike() -> None:
    one = report()
    wide = np.repeat(one.truth["joints"][..., :1, :1], 4000, -1)  # [B T 1 4000]
    space = one.space | {"joints": Space(dtype=np.dtype(np.float32), shape=wide.shape[2:])}
    alike = replace(one, space=space, truth=one.truth | {"joints": wide}, prediction=one.prediction | {"joints": wide})
    words = [text.get_text() for text in open_loop_figure(alike, "a task").texts]
    assert "joints[0,0]" in words and "mode" in words and any("8 of 4002 dimensions" in word for word in words)


def test_files_are_whole_and_few(tmp_path: Path) -> None:
    for updates in (100, 200):
        written = write_pictures(report(updates), tmp_path, "a task", keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["openloop-00000200.mp4", "openloop-00000200.png"]
    figure, video = written
    with Image.open(figure) as picture:
        picture.load()
        assert picture.width > 1000
    header, *frames = read_frames(str(video))
    assert len(frames) == TIME + FPS and header["fps"] == FPS
    (only,) = write_pictures(replace(report(400), space={}), tmp_path / "vectors", "")
    assert only.suffix == ".png"


def test_a_report_falls_on_a_line_of_metrics() -> None:
    config = RunConfig(log_every=40, report_every=100)
    assert [u for u in range(1, 410) if open_loop_due(config, u)] == [120, 200, 320, 400]
    assert not any(open_loop_due(replace(config, report_every=0), u) for u in range(1, 410))
    with pytest.raises(ValueError, match="report_every=-1"):
        RunConfig(report_every=-1)


def test_a_run_reports_and_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MY_MODULE)
    options = ["--mode", "inline", "--learner.train-ratio", "8", "--frames", "110", "--log-every", "5"]
    with_reports, without = tmp_path / "with", tmp_path / "without"
    for logdir, every in ((with_reports, "7"), (without, "0")):
        done = run(tmp_path, command("gym:my_module:MyEnv-v0", logdir, *options, "--report-every", every))
        assert done.returncode == 0, done.stdout + done.stderr

    written = lines(with_reports / "metrics.jsonl")
    reports = {line["updates"]: line for line in written if any(key.startswith("report/") for key in line)}
    assert list(reports)[:2] == [10, 15]  # the lines at or after updates 7 and 14
    for line in reports.values():
        for key in ("image", "vector", "reward"):
            assert 0 <= line[f"report/openloop_{key}"] < 10
            assert np.isfinite(line[f"report/openloop_{key}/last"])
    names = {path.name for path in (with_reports / "videos").glob("openloop-*")}
    assert names >= {f"openloop-{max(reports):08d}{suffix}" for suffix in (".png", ".mp4")} and len(names) <= 10
    reader = EventAccumulator(str(with_reports))
    reader.Reload()
    assert len(reader.Scalars("report/openloop_image")) == len(reports)

    # Nothing but the reports differs: parameters, optimiser, replay, scores, the other metrics.
    last = checkpoints(with_reports)[-1]
    assert checkpoints(without)[-1] == last
    assert differences(state_of(with_reports, last), state_of(without, last)) == []
    assert lines(with_reports / "scores.jsonl") == lines(without / "scores.jsonl")
    plain = [{k: v for k, v in line.items() if not k.startswith("report/")} for line in written]
    assert plain == lines(without / "metrics.jsonl")
    assert not list((without / "videos").glob("openloop-*"))
