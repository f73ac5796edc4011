"""A local run with two actors of four environments and two shards survives what is killed under it."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import end_all, members, named, start_marked
from tests.integration.runs import checkpoints, command, lines, replay_of, wait_for

LOCAL = [
    "--mode", "local", "--actor.actors", "2", "--actor.environments", "8", "--replay.shards", "2",
    "--learner.train-ratio", "16", "--checkpoint-every", "50", "--log-every", "10", "--frames", "1000000",
]  # fmt: skip


def _command(logdir: Path) -> list[str]:
    return command("gym:CartPole-v1", logdir, *LOCAL)


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    """A run directory; whatever of the run is left at the end is killed."""
    yield tmp_path / "run"
    end_all(tmp_path)


def _start(logdir: Path, arguments: list[str] | None = None) -> subprocess.Popen[str]:
    return start_marked(logdir.parent, arguments or _command(logdir))


def _updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def _output(logdir: Path) -> str:
    return (logdir.parent / "output.log").read_text()


def _rays_own(logdir: Path) -> list[str]:
    """Lines of Ray itself, with its prefix of a process or its C++ libraries' of time and place, on the terminal or in
    the learner's log."""
    said = _output(logdir) + (logdir / "learner.log").read_text()
    return [line for line in said.splitlines() if re.search(r"raylet|pid=|OOM|^\S*\[\d{4}-", line)]


def test_killed_actor_and_learner_come_back_and_everything_continues(logdir: Path) -> None:
    run = _start(logdir)
    wait_for(lambda: _updates(logdir) >= 60 and checkpoints(logdir), "update 60 and a checkpoint")

    workers = [int(pid) for pid in re.findall(r"actor \d+ runs as process (\d+)", _output(logdir))]
    assert len(workers) == 2, _output(logdir)
    os.kill(workers[0], signal.SIGKILL)
    back = wait_for(lambda: re.search(r"actor \d is back after ([\d.]+) s", _output(logdir)), "the killed actor")
    print(f"actor back after {back.group(1)} s")
    before = _updates(logdir)
    wait_for(lambda: _updates(logdir) >= before + 40, "work of the new actor")
    (coordinator,) = named(logdir.parent, "ray::coordinator")
    coordinator.kill()
    wait_for(lambda: "the coordinator died" in _output(logdir), "the driver to notice")
    before = _updates(logdir)
    wait_for(lambda: _updates(logdir) >= before + 20, "training with another coordinator")

    (learner,) = named(logdir.parent, "deploy.distributed.learner_process")
    learner.send_signal(signal.SIGKILL)
    wait_for(lambda: "the learner died (signal 9)" in _output(logdir), "the supervisor to notice")
    before = _updates(logdir)  # of the killed one, all of which are written
    wait_for(lambda: _updates(logdir) > before + 20, "the learner to go on")
    newest_line = lines(logdir / "metrics.jsonl")[-1]
    restarts = [newest_line[f"restarts/{role}"] for role in ("actor", "learner", "coordinator", "shard")]
    assert restarts == [1, 1, 1, 0]
    assert run.poll() is None

    # Without its driver nothing goes on; the learner says what the run continues from, and ends with the others.
    run.kill()
    run.wait(10)
    wait_for(lambda: not members(logdir.parent), "everything to end by itself")
    said = (logdir / "learner.log").read_text()
    assert re.search(r"the same command continues from checkpoint \d+", said) or "saved at update" in said, said
    newest = checkpoints(logdir)[-1]
    saved = json.loads((logdir / "checkpoints" / f"{newest:010d}" / "state.json").read_text())["counters"]
    logged = [line["frames"] for line in lines(logdir / "metrics.jsonl") if line["updates"] <= newest]
    assert logged and max(logged) <= saved["frames"]

    again = _start(logdir)
    wait_for(lambda: f"Continuing {logdir}" in _output(logdir), "the same command to continue")
    wait_for(lambda: _updates(logdir) >= newest + 60, "updates after the restart")
    scores = lines(logdir / "scores.jsonl")
    assert [line["frames"] for line in scores] == sorted(line["frames"] for line in scores)
    for _ in range(2):  # its terminal is closed: the shell says so to the whole group, and then the system
        os.killpg(again.pid, signal.SIGHUP)
    assert again.wait(300) == 130, _output(logdir)
    assert "Stopped and saved" in _output(logdir)
    assert checkpoints(logdir)[-1] >= _updates(logdir)
    assert not _rays_own(logdir)
    assert not [p for p in members(logdir.parent) if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    # No sequence is torn: whatever stands in replay is consecutive steps whose flags fit together.
    rows = replay_of(logdir, logdir / "checkpoints" / f"{checkpoints(logdir)[-1]:010d}")
    streams = {key.rsplit("/", 1)[0] for key in rows if key.endswith("/is_first")}
    assert len(streams) > 8  # of eight environments: some have had another life
    for stream in streams:
        first, last = rows[f"{stream}/is_first"], rows[f"{stream}/is_last"]
        assert (first[1:] == last[:-1]).all(), f"{stream}: an episode begins without the one before it ending"


BREAKS = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Breaks(CartPoleEnv):
    taken = 0
    def step(self, action):
        self.taken += 1
        if self.taken > 30:
            raise RuntimeError("the robot is out of battery")
        return super().step(action)

gym.register("Breaks-v0", Breaks)
"""


def test_a_failing_environment_ends_the_run_with_its_own_words(logdir: Path) -> None:
    (logdir.parent / "breaks.py").write_text(BREAKS)
    arguments = [word.replace("gym:CartPole-v1", "gym:breaks:Breaks-v0") for word in _command(logdir)]
    run = _start(logdir, arguments)
    assert run.wait(300) == 1, _output(logdir)
    assert "the robot is out of battery" in _output(logdir) and "breaks.py, line 10" in _output(logdir)
    assert "Traceback" not in _output(logdir) and "ray::" not in _output(logdir)
    assert any("Traceback" in log.read_text() or "ray::" in log.read_text() for log in logdir.glob("actor-*.log"))
    assert checkpoints(logdir), "the learner had no chance to save"
