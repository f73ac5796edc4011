"""A local run whose learner is several processes that share every batch survives the loss of any of them."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.distributed.learner_group.time_shares import PARTS
from tests.integration.listeners import Listener, listeners
from tests.integration.processes import end_all, having, members, named, start_marked
from tests.integration.ray_nodes import RayNodes, environment_of
from tests.integration.runs import checkpoints, command, lines, wait_for
from tests.replay.redis.redis_servers import RedisServer

LOCAL = [
    "--mode", "local", "--actor.actors", "1", "--learner.train-ratio", "16", "--checkpoint-every", "20",
    "--log-every", "5", "--frames", "1000000",
]  # fmt: skip
FIRST, OTHERS = "deploy.distributed.learner_process", "deploy.distributed.learner_group.follower"


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    """A run directory; whatever of the run is left at the end is killed."""
    yield tmp_path / "run"
    end_all(tmp_path)


def _start(logdir: Path, *options: str) -> subprocess.Popen[str]:
    return start_marked(logdir.parent, command("gym:CartPole-v1", logdir, *LOCAL, *options))


def _updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def _output(logdir: Path) -> str:
    return (logdir.parent / "output.log").read_text()


def _goes_on(logdir: Path) -> None:
    before = _updates(logdir)  # of processes that are gone, all of which are written
    wait_for(lambda: _updates(logdir) > before + 20, "the learner to go on")


def _stop(run: subprocess.Popen[str], logdir: Path) -> None:
    run.send_signal(signal.SIGINT)
    assert run.wait(300) == 130, _output(logdir)
    assert "Stopped and saved" in _output(logdir)
    assert not [p for p in members(logdir.parent) if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_whichever_process_dies_the_run_goes_on_from_its_last_checkpoint(logdir: Path) -> None:
    run = _start(logdir, "--learner.processes", "2")
    wait_for(lambda: _updates(logdir) >= 30 and checkpoints(logdir), "update 30 and a checkpoint")
    (other,) = named(logdir.parent, OTHERS)
    assert not (logdir / "learner-2.log").exists()
    found = listeners([*named(logdir.parent, FIRST), other])
    assert found == {Listener("learner", "this machine")}, found

    os.kill(other.pid, signal.SIGKILL)
    wait_for(lambda: "the learner died (exit code 1); restarting it from checkpoint" in _output(logdir), "the restart")
    said = (logdir / "learner.log").read_text()
    assert f"Process 1 of the learner's 2 has ended (signal 9; its output is in {logdir / 'learner-1.log'})" in said
    assert "Traceback" not in said
    _goes_on(logdir)
    assert "continuing at update" in (logdir / "learner.log").read_text()

    (first,), (other,) = named(logdir.parent, FIRST), named(logdir.parent, OTHERS)
    os.kill(other.pid, signal.SIGSTOP)  # not even one that hears nothing any more is left behind
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: "the learner died (signal 9)" in _output(logdir), "the supervisor to notice")
    wait_for(lambda: not other.is_running(), "the process that was stopped to be gone")
    _goes_on(logdir)
    assert lines(logdir / "metrics.jsonl")[-1]["restarts/learner"] == 2
    newest = json.loads((logdir / "metrics.jsonl").read_text().splitlines()[-1])
    shares = [newest[f"time/{part}"] for part in PARTS]
    assert all(share >= 0 for share in shares) and newest["time/turn"] > 0 and sum(shares) < 1
    _stop(run, logdir)
    newest = checkpoints(logdir)[-1]
    assert newest >= _updates(logdir)

    run = _start(logdir, "--learner.processes", "1", "--learner.accumulate", "2")
    wait_for(lambda: f"Continuing {logdir}" in _output(logdir), "another number of processes to continue")
    wait_for(lambda: _updates(logdir) >= newest + 20, "updates of one process")
    assert not named(logdir.parent, OTHERS)
    _stop(run, logdir)


@pytest.mark.slow
def test_on_a_cluster_the_processes_are_placed_and_come_back_together(logdir: Path) -> None:
    with RayNodes() as nodes:
        with environment_of(nodes):
            run = _start(
                logdir, "--mode", "cluster", "--cluster.address", nodes.address, "--learner.processes", "2",
            )  # fmt: skip
        wait_for(lambda: _updates(logdir) >= 30 and checkpoints(logdir), "update 30 and a checkpoint")
        (other,) = having(nodes.members("head"), OTHERS)
        os.kill(other.pid, signal.SIGKILL)
        wait_for(lambda: "the learner died (exit code 1)" in _output(logdir), "the supervisor to notice")
        _goes_on(logdir)
        (first,), (other,) = having(nodes.members("head"), FIRST), having(nodes.members("head"), OTHERS)
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: not other.is_running(), "the other process to end")
        _goes_on(logdir)
        run.send_signal(signal.SIGINT)
        assert run.wait(300) == 130, _output(logdir)
        assert checkpoints(logdir)[-1] >= _updates(logdir)
        wait_for(lambda: not having(nodes.members(), OTHERS), "all processes to end")


@pytest.mark.slow
def test_a_process_that_hangs_is_noticed_and_replaced(logdir: Path) -> None:
    run = _start(logdir, "--learner.processes", "2")
    wait_for(lambda: _updates(logdir) >= 30 and checkpoints(logdir), "update 30 and a checkpoint")
    (other,) = named(logdir.parent, OTHERS)
    other.suspend()
    wait_for(lambda: "the learner has given no sign of life" in _output(logdir), "the supervisor to notice", 260)
    wait_for(lambda: not other.is_running(), "the process that hung to be gone")
    _goes_on(logdir)
    _stop(run, logdir)


@pytest.mark.slow
def test_the_processes_read_replay_on_a_redis_server_each_by_itself(logdir: Path) -> None:
    with RedisServer(tcp=True, appendonly=True) as server:
        run = _start(logdir, "--learner.processes", "2", "--replay", server.url_tcp, "--learner.accumulate", "2")
        wait_for(lambda: _updates(logdir) >= 30 and checkpoints(logdir), "update 30 and a checkpoint")
        (other,) = named(logdir.parent, OTHERS)
        other.kill()
        wait_for(lambda: "the learner died (exit code 1)" in _output(logdir), "the supervisor to notice")
        _goes_on(logdir)
        _stop(run, logdir)
