"""Requests to a run in progress through its directory."""

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.stored.control import ANSWER, FOLDER, REQUEST, ControlFolder, RunUnreachableError, Unreadable, active, ask
from deploy.stored.run_status import FORMAT, read_status, write_status
from deploy.wiring.config import RunConfig, claim_logdir
from replay.files.whole_file import whole_file


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    """A run directory that this process holds, as the run would."""
    claim_logdir(RunConfig(mode="local"), tmp_path).confirm()
    return tmp_path


@contextmanager
def _run(logdir: Path, answer: dict[str, Any]) -> Iterator[list[Any]]:
    """Answers every request in the same way; yields what has come in."""
    folder, over, seen = ControlFolder(logdir), threading.Event(), list[Any]()

    def work() -> None:
        while not over.wait(0.01):
            for name, request in folder.take():
                seen.append(request)
                folder.answer(name, answer)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(10)


def test_a_request_is_answered_and_leaves_nothing_behind(logdir: Path) -> None:
    with _run(logdir, {"actors": [1, 4]}) as seen:
        assert ask(logdir, {"actors": 4}, 20) == {"actors": [1, 4]}
    assert seen == [{"actors": 4}] and not list((logdir / FOLDER).iterdir())
    assert stat.S_IMODE((logdir / FOLDER).stat().st_mode) == 0o700


def test_a_refusal_is_an_error(logdir: Path) -> None:
    with _run(logdir, {"error": "actors=0 must be a whole number from 1 to 8192."}), pytest.raises(
        ValueError, match="actors=0 must be"
    ):  # fmt: skip
        ask(logdir, {"actors": 0}, 20)


def test_a_run_that_does_not_answer_gets_no_request_later(logdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ControlFolder(logdir)
    write_status(logdir, {"state": "starting"})
    told = list[float]()

    def wait(seconds: float) -> None:
        told.append(seconds)
        let_pass(monkeypatch, 30)

    with pytest.raises(RunUnreachableError, match=r"not answered within 30 s \(state: starting\); the request is"):
        ask(logdir, {"stop": True}, 30, wait)
    assert len(told) == 1 and folder.take() == []


def test_a_request_that_is_being_carried_out_is_not_called_withdrawn(
    logdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, taken = ControlFolder(logdir), list[Any]()

    def take(_: float) -> None:
        taken.extend(folder.take())
        let_pass(monkeypatch, 30)

    with pytest.raises(RunUnreachableError, match="still carrying out the request"):
        ask(logdir, {"checkpoint": True}, 30, take)
    assert [request for _, request in taken] == [{"checkpoint": True}]


def let_pass(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on the clock is ahead by this much."""
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + seconds)


def test_nobody_is_asked_where_no_run_is_active(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config.yaml"):
        ask(tmp_path, {"stop": True})
    (tmp_path / "config.yaml").write_text("task: gym:CartPole-v1\n")
    assert not active(tmp_path)
    with pytest.raises(RunUnreachableError, match="No run is active"):
        ask(tmp_path, {"stop": True})
    claim_logdir(RunConfig(mode="inline"), tmp_path / "inline").confirm()
    with pytest.raises(RunUnreachableError, match="inline mode, which takes no requests"):
        ask(tmp_path / "inline", {"stop": True})


def test_requests_of_an_earlier_life_are_dropped_and_odd_files_do_no_harm(logdir: Path) -> None:
    folder = logdir / FOLDER
    ControlFolder(logdir)
    (folder / f"old{REQUEST}").write_text('{"stop": true}')
    (folder / f"old{ANSWER}").write_text("{}")
    control = ControlFolder(logdir)
    assert control.take() == []
    (folder / f"a{REQUEST}").write_text("{half")
    (folder / f"b{REQUEST}").write_text('{"actors": 2}')
    (folder / f"c{REQUEST}").write_text('"' + "x" * 100_000 + '"')
    (folder / f"d{REQUEST}").write_text("[" * 60_000)
    assert control.take() == [
        ("a", "is not JSON"), ("b", {"actors": 2}), ("c", "is larger than 64 KB"), ("d", "is not JSON")
    ]  # fmt: skip
    assert control.take() == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_request_of_somebody_else_is_not_read(logdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control, path = ControlFolder(logdir), logdir / FOLDER / f"a{REQUEST}"
    path.write_text('{"stop": true}')
    os.chown(path, 12345, 12345)
    ((_, why),) = control.take()
    assert isinstance(why, Unreadable) and "belongs to another user" in why


def test_a_status_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    assert read_status(tmp_path) == {}
    write_status(tmp_path, {"state": "training", "frames": 3})
    assert read_status(tmp_path) == {"format": FORMAT, "state": "training", "frames": 3}
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "training"
    (tmp_path / "status.json").write_text("[1]")
    assert read_status(tmp_path) == {}


def test_a_request_that_is_still_being_written_is_left_alone(logdir: Path) -> None:
    folder, path = ControlFolder(logdir), logdir / FOLDER / f"1{REQUEST}"
    with whole_file(path) as fresh:
        fresh.write_text('{"actors"')
        assert folder.take() == [] and fresh.exists()
        fresh.write_text('{"actors": 4}')
    assert folder.take() == [("1", {"actors": 4})]
