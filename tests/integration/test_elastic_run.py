"""A local run whose number of actors changes while it goes on: every reported step is stored exactly once."""

import json
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deploy.stored.control import ask
from deploy.stored.run_status import read_status
from deploy.stored.sources import open_sources
from learner.checkpoint import Checkpoints, read_document
from tests.integration.processes import end_all, start_marked
from tests.integration.runs import NEXUS, command, lines, run, wait_for

OPTIONS = ["--mode", "local", "--replay", "disk", "--frames", "10000000", "--log-every", "5"]


def _nexus(folder: Path, *arguments: str) -> str:
    done = run(folder, [*NEXUS, *arguments])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _stored(logdir: Path) -> dict[int, range]:
    """The steps of every stream on disk."""
    streams: dict[int, range] = {}
    for reader in open_sources(str(logdir)):
        with closing(reader):
            streams |= reader.streams()
    return streams


def _counters(logdir: Path) -> dict[str, int]:
    checkpoints = Checkpoints.of(logdir)
    counters: dict[str, int] = read_document(checkpoints.path(max(checkpoints.numbers())) / "state.json")["counters"]
    return counters


def _status(logdir: Path) -> Any:
    return read_status(logdir)


def test_actors_come_and_go_and_the_run_continues_with_another_number(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    train = command("gym:CartPole-v1", logdir, *OPTIONS, "--actor.actors", "1")
    supervisor = start_marked(tmp_path, train)
    try:
        wait_for(lambda: (logdir / "status.json").exists() or supervisor.poll(), "the run to begin")
        said = _nexus(tmp_path, "scale", "run", "--actors", "3")
        assert "actors 1 -> 3, environments 4 -> 12" in said and "3 actors are acting" in said
        wait_for(lambda: lines(logdir / "metrics.jsonl"), "a line of metrics")
        assert _status(logdir)["state"] == "training"
        checkpoint = Path(_nexus(tmp_path, "checkpoint", "run").strip())
        assert (tmp_path / checkpoint / "model.safetensors").exists()
        each = _status(logdir)["actors"]["each"]
        assert [one["environments"] for one in each.values()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        wait_for(lambda: all(one["rows"] for one in _status(logdir)["actors"]["each"].values()), "rows of each actor")
        assert "chooses the number of actors, 1 to 32" in _nexus(tmp_path, "scale", "run", "--actors", "auto")
        wait_for(lambda: _status(logdir)["autoscale"]["on"], "the run to choose its number of actors")
        with pytest.raises(ValueError, match="replay.tolerance=1 is too small"):
            ask(logdir, {"tolerance": 1})
        (in_the_way := logdir / ".config.new.yaml").mkdir()
        with pytest.raises(ValueError, match="config.yaml cannot be written"):
            ask(logdir, {"train_ratio": 7})
        in_the_way.rmdir()
        assert _status(logdir)["train_ratio"] != 7
        stored = logdir / "config.yaml"
        stored.write_text(stored.read_text().replace("keep_checkpoints: 2", "keep_checkpoints: 3"))
        assert "3 -> 2" in _nexus(tmp_path, "scale", "run", "--actors", "2", "--train-ratio", "8")
        assert "train_ratio: 8.0" in stored.read_text()
        wait_for(lambda: not _status(logdir)["autoscale"]["on"], "the run to keep that number")
        changes = lines(logdir / "scaling.jsonl")
        assert [(one["before"], one["after"]) for one in changes if one["by"] == "request"] == [(1, 3), (3, 2)]
        assert "keep_checkpoints: 3" in stored.read_text(), "an edit for the next start stays"
        _nexus(tmp_path, "stop", "run")
        assert supervisor.wait(300) == 0
        status, counters = _status(logdir), _counters(logdir)
        assert status["state"] == "ended" and status["actors"]["target"] == 2
        streams = _stored(logdir)
        assert all(steps.start == 0 for steps in streams.values()), "nothing was evicted"
        assert sum(map(len, streams.values())) == counters["steps"] == status["steps"]
        assert len(streams) == 12, "one stream for each environment of three workers"
        seeds = [line["seed"] for line in lines(logdir / "scores.jsonl")]
        assert len(set(seeds)) == len(seeds) > 0

        # Continued with another number of actors than it was stopped with; its coordinator is killed on the way.
        supervisor = start_marked(tmp_path, command("gym:CartPole-v1", logdir, *OPTIONS, "--actor.actors", "2"))
        before = counters["steps"]
        wait_for(lambda: _status(logdir).get("steps", 0) > before or supervisor.poll(), "more steps")
        _nexus(tmp_path, "scale", "run", "--actors", "3")
        os.kill(_status(logdir)["processes"]["coordinator"]["process"], signal.SIGKILL)
        wait_for(lambda: _status(logdir)["restarts"]["coordinator"] == 1, "another coordinator")
        before = _status(logdir)["steps"]
        wait_for(lambda: _status(logdir)["steps"] > before + 200, "the actors to go on")
        assert _status(logdir)["actors"]["target"] == 3
        said = _nexus(tmp_path, "scale", "run", "--actors", "1")
        assert "1 actor is acting" in said, "the coordinator that took its place knows what is asked for"
        _nexus(tmp_path, "stop", "run")
        assert supervisor.wait(300) == 0
        counted, streams = _counters(logdir)["steps"], _stored(logdir)
        assert all(steps.start == 0 for steps in streams.values())
        assert counted <= sum(map(len, streams.values())) <= counted + 500, (
            "reports of its last moments are not counted"
        )
        again = [json.loads(line)["seed"] for line in (logdir / "scores.jsonl").read_text().splitlines()]
        assert len(set(again)) == len(again) > len(seeds)
    finally:
        end_all(tmp_path)
