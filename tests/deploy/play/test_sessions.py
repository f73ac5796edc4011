"""What a page asks and what it is told; films of it."""

import io
import json
from typing import Any

import numpy as np
import pytest

from deploy.monitor.questions import QuestionError
from deploy.play.film import Film
from deploy.play.session import Session
from tests.deploy.play.written_worlds import small_game


def read(message: bytes | None) -> tuple[dict[str, Any], np.ndarray]:
    """What a message says, and its pictures `[N H W C]`."""
    assert message
    line, _, data = message.partition(b"\n")
    about = json.loads(line)
    if not about.get("pictures"):
        return about, np.frombuffer(data, np.uint8)
    shape = [about[name] for name in ("pictures", "height", "width", "channels")]
    return about, np.frombuffer(data, np.uint8).reshape(shape)


def test_a_session_from_hello_to_the_end() -> None:
    game = small_game()
    session = Session(game)
    hello, pictures = read(session.hello())
    assert hello["actions"] == 3 and hello["latent"] and hello["recordings"][0] == {"length": 16, "begins": 3}
    assert pictures.shape == (12, 16, 16, 3)
    waits = session.previewing  # no world yet
    begun, pictures = read(session.answer({"do": "begin", "recording": 1, "frame": 0}))
    assert (begun["kind"], begun["step"], begun["drift"], begun["left"], begun["psnr"]) == ("frame", 0, 0, None, None)
    assert np.array_equal(pictures[0], game.recordings[1].frames[0].numpy())
    assert (waits, session.previewing) == (False, True)
    about, pictures = read(session.preview())
    assert about["begun"] == begun["begun"] and pictures.shape == (3, 16, 16, 3)
    followed, pictures = read(session.answer({"do": "follow"}))
    assert followed["step"] == 1 and followed["psnr"] > 0 and followed["seconds"] > 0 and len(pictures) == 2
    assert np.array_equal(pictures[1], game.recordings[1].frames[1].numpy())
    left, _ = read(session.answer({"do": "step", "action": 2}))
    assert left["step"] == 2 and left["left"] == 2 and left["psnr"] is None
    for _ in range(13):
        session.answer({"do": "follow"})
    assert read(session.answer({"do": "follow"}))[0] == {"kind": "over"}
    after, pictures = read(session.answer({"do": "step", "action": 0}))
    assert after["step"] == 16 and len(pictures) == 1


@pytest.mark.parametrize(
    "request_",
    [
        None, [], "step", 5, {}, {"do": "dance"}, {"do": "step"}, {"do": "step", "action": 3},
        {"do": "step", "action": -1}, {"do": "step", "action": 0.5}, {"do": "step", "action": "0"},
        {"do": "begin", "recording": 0}, {"do": "begin", "recording": 12, "frame": 0},
        {"do": "begin", "recording": 0, "frame": 16}, {"do": "begin", "recording": -1, "frame": 0}, {"do": "cut"},
        {"do": "record", "fps": 10, "beside": False},
        {"do": "record", "fps": 0, "beside": False}, {"do": "record", "fps": 10, "beside": 1},
        {"do": "step", "action": 0},
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused(request_: Any) -> None:
    with pytest.raises(QuestionError):
        Session(small_game()).answer(request_)


@pytest.mark.parametrize("beside", [False, True])
def test_a_film_has_every_frame_that_was_played(beside: bool) -> None:
    av = pytest.importorskip("av", reason="needs the extra video")
    session = Session(small_game())
    played = [read(session.answer({"do": "begin", "recording": 0, "frame": 3}))[1]]
    assert read(session.answer({"do": "record", "fps": 7, "beside": beside}))[0] == {"kind": "recording"}
    with pytest.raises(QuestionError, match="end it first"):
        session.answer({"do": "record", "fps": 7, "beside": beside})
    played += [read(session.answer({"do": "step", "action": n % 3}))[1] for n in range(9)]
    about, data = read(session.answer({"do": "cut"}))
    assert about == {"kind": "film", "frames": 10, "full": False}
    with av.open(io.BytesIO(data.tobytes())) as film:
        stream = film.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert len(frames) == 10 and stream.average_rate == 7
    assert frames[0].shape == (256, 512 if beside else 256, 3)
    for shown, pictures in zip(frames, played, strict=True):
        dream = shown[8::16, -256:][:, 8::16]  # the middle of each enlarged pixel
        assert np.abs(dream.astype(int) - pictures[0]).mean() < 12
        if beside:
            assert np.abs(shown[8::16, 8:256:16].astype(int) - pictures[1]).mean() < 12
    with pytest.raises(QuestionError):
        session.answer({"do": "cut"})


def test_odd_sizes_and_grey_frames_make_films_too() -> None:
    pytest.importorskip("av", reason="needs the extra video")
    film = Film(10)
    film.add(np.zeros((301, 303, 1), np.uint8))
    assert film.finish()[4:8] == b"ftyp"
    assert Film(10).finish() == b""
