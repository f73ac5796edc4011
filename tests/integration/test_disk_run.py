"""A local run whose replay lies on disk: shards and everything else are killed, what was sealed stays."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from replay.disk.disk_reader import DiskReader
from replay.keys import incarnation_of
from tests.integration.processes import end_all, members, named, start_marked
from tests.integration.runs import checkpoints, command, lines, wait_for

LOCAL = [
    "--mode", "local", "--actor.actors", "2", "--actor.environments", "8", "--replay", "disk", "--replay.shards", "2",
    "--replay.chunk-length", "16", "--learner.train-ratio", "16", "--checkpoint-every", "50", "--log-every", "10",
    "--frames", "1000000",
]  # fmt: skip


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    end_all(tmp_path)


def _updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def _output(logdir: Path) -> str:
    return (logdir.parent / "output.log").read_text()


def _stored(logdir: Path) -> dict[int, range]:
    return {s: steps for shard in (0, 1) for s, steps in DiskReader(logdir / f"replay/shard-{shard}").streams().items()}


def test_killed_shards_and_runs_go_on_with_what_was_sealed(logdir: Path) -> None:
    run = start_marked(logdir.parent, command("gym:CartPole-v1", logdir, *LOCAL))
    wait_for(lambda: _updates(logdir) >= 60 and checkpoints(logdir), "update 60 and a checkpoint")

    shard = named(logdir.parent, "ray::shard-0")[0]
    os.kill(shard.pid, signal.SIGKILL)
    wait_for(lambda: "shard-0 has restarted with the steps in its folder" in _output(logdir), "the shard")
    before = _updates(logdir)
    wait_for(lambda: _updates(logdir) >= before + 30, "training to go on")

    for process in members(logdir.parent):
        process.kill()
    psutil.wait_procs(members(logdir.parent), timeout=60)
    run.wait(10)
    sealed = _stored(logdir)
    assert sum(map(len, sealed.values())) >= 300
    newest = checkpoints(logdir)[-1]
    saved = json.loads((logdir / "checkpoints" / f"{newest:010d}" / "state.json").read_text())["counters"]

    again = start_marked(logdir.parent, command("gym:CartPole-v1", logdir, *LOCAL))
    # Only then are the lines gone that the dead life wrote beyond its checkpoint.
    wait_for(lambda: f"Continuing {logdir}" in _output(logdir), "the same command to continue")
    wait_for(lambda: _updates(logdir) >= newest + 30, "updates after the restart")
    # Stored steps are enough for updates; frames are counted once their rows are in replay.
    wait_for(lambda: lines(logdir / "metrics.jsonl")[-1]["frames"] > saved["frames"], "frames of the new actors")
    again.send_signal(signal.SIGINT)
    assert again.wait(300) == 130, _output(logdir)
    kept = _stored(logdir)
    assert all(kept[stream].stop >= steps.stop for stream, steps in sealed.items())
    assert max(map(incarnation_of, kept)) > max(map(incarnation_of, sealed)), "the new actors write their own streams"
    assert not re.search("Traceback|ray::", _output(logdir))
