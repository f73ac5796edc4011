"""What is brought back, how often, and that it is counted."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from deploy.distributed.learner_program import LearnerProgram
from deploy.distributed.remote import ask, start
from deploy.distributed.supervisor.learner_child import LearnerChild
from deploy.distributed.supervisor.restart_log import RestartLog
from deploy.distributed.supervisor.restart_policy import RESTARTS, SILENCE, RestartPolicy
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.run_failed import RunFailedError
from tests.contracts import ray_stores
from tests.integration.runs import wait_for


class Sleeper:
    """In a Ray actor: works until it is told to break."""

    def run(self, seconds: float = 1000) -> None:
        time.sleep(seconds)

    def process(self) -> int:
        return os.getpid()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[[str], LearnerChild]]:
    """Makes a learner that is a process with this code."""
    made: list[LearnerChild] = []

    def make(code: str) -> LearnerChild:
        log = RestartLog(tmp_path, ["learner"])
        command = [sys.executable, "-I", "-S", "-c", code]

        def begin(checkpoint: str) -> LearnerProgram:
            return LearnerProgram(command, "", tmp_path / "learner.log")

        made.append(LearnerChild(begin, tmp_path, lambda line: None, log.add))
        made[-1].launch("none")
        return made[-1]

    yield make
    for one in made:
        one.end()


def _live_once_more(child: LearnerChild, saved: int) -> None:
    """Until it was found dead and has been started again."""
    wait_for(lambda: child.check(saved, 0.0), "the learner to be found dead")
    child.restarts.retry_at = 0.0
    assert not child.check(saved, None) and child.process


@pytest.mark.parametrize("saved", [[-1] * 99, [300, 200, 100, *[200] * 96]], ids=["none", "damaged"])
def test_a_learner_that_saves_nothing_newer_is_given_up(
    child: Callable[[str], LearnerChild], saved: list[int], tmp_path: Path
) -> None:
    one = child("print('ran into a wall'); raise SystemExit(7)")
    for life in range(RESTARTS):
        _live_once_more(one, saved[life])
    with pytest.raises(RunFailedError, match=r"(?s)6 times in a row.*exit code 7.*ran into a wall"):
        wait_for(lambda: one.check(saved[RESTARTS], 0.0), "the learner to be found dead")
    assert RestartLog(tmp_path, []).counts == {"learner": RESTARTS}


def test_a_learner_that_refuses_its_configuration_is_not_started_again(child: Callable[[str], LearnerChild]) -> None:
    one = child("print('torch sees no CUDA device; use cpu'); raise SystemExit(5)")
    with pytest.raises(RunFailedError, match=r"(?s)^The learner cannot start\. .*sees no CUDA device; use cpu"):
        wait_for(lambda: one.check(-1, 0.0), "the learner to be found dead")


def test_a_newer_checkpoint_lets_a_learners_failures_be_forgotten(child: Callable[[str], LearnerChild]) -> None:
    one = child("raise SystemExit(7)")
    for life in range(RESTARTS + 2):
        _live_once_more(one, saved=100 * life)
    assert one.restarts.failures == 1


def test_a_learner_that_waits_for_a_store_is_asked_by_a_signal(child: Callable[[str], LearnerChild]) -> None:
    one = child(
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.write(1, b'saved') - 5)); "
        "print('listening', flush=True); time.sleep(1000)"
    )
    wait_for(
        lambda: "listening" in one.tail(), "the learner to listen"
    )  # no word of this test's name, which the path of the log has
    one.wait(1000.0, patience=0.1)  # not half of the time that it has
    assert "saved" in one.tail() and one.process and one.process.poll() == 0


def test_a_learner_that_hangs_is_killed_even_if_it_is_stopped(child: Callable[[str], LearnerChild]) -> None:
    one = child("import time; time.sleep(1000)")
    assert isinstance(one.process, LearnerProgram)
    one.process.send_signal(signal.SIGSTOP)
    assert not one.check(0, SILENCE - 1) and one.process.poll() is None
    one.check(0, SILENCE + 1)
    wait_for(lambda: one.check(0, SILENCE + 1), "the learner to be killed")
    assert one.restarts.reason == "signal 9"


def test_an_actor_that_hangs_is_killed_and_its_failures_are_forgotten_after_work_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray_stores.actor()  # Ray is there
    log = RestartLog(tmp_path, ["actor 0", "actor 1"])

    def begin() -> Any:
        return start("tests.deploy.distributed.supervisor.test_children.Sleeper", cpus=0, threads=2)

    one = WorkerChild("actor 0", begin, tmp_path, lambda line: None, log.add)
    one.launch()
    assert one.handle
    process = ask(one.handle, "process")
    os.kill(process, signal.SIGSTOP)
    assert not one.check(SILENCE - 1, False)
    assert not one.check(SILENCE + 1, False)
    wait_for(lambda: one.check(SILENCE + 1, False), "the worker to be killed")
    wait_for(lambda: not os.path.exists(f"/proc/{process}"), "the worker's process to end")
    assert log.counts["actor 0"] == 0 and one.restarts.failures == 1
    one.check(None, False)
    assert log.counts["actor 0"] == 1 and one.handle and ask(one.handle, "process") != process

    monkeypatch.setattr("deploy.distributed.supervisor.worker_child.WORKED", 1000.0)
    one.check(0.0, True)
    assert one.restarts.failures == 1, "it has not lived long enough"
    monkeypatch.setattr("deploy.distributed.supervisor.worker_child.WORKED", 0.0)
    one.check(0.0, False)
    assert one.restarts.failures == 1, "it has lived, but done nothing"
    one.check(0.0, True)
    assert one.restarts.failures == 0
    ray.kill(one.handle)


def test_failures_in_a_row_end_the_run_and_the_first_is_forgiven_at_once() -> None:
    restarts = RestartPolicy()
    restarts.failed("actor 0", "signal 9")
    assert restarts.retry_at <= time.monotonic()
    for _ in range(RESTARTS - 1):
        restarts.failed("actor 0", "signal 9")
    assert restarts.retry_at > time.monotonic()
    with pytest.raises(RunFailedError, match="actor 0 failed 6 times in a row; the last time: signal 9"):
        restarts.failed("actor 0", "signal 9")


def test_restarts_are_counted_in_all_lives_of_a_run(tmp_path: Path) -> None:
    log = RestartLog(tmp_path, ["learner", "actor 0", "actor 1", "shard-0"])
    assert log.metrics() == {"restarts/learner": 0, "restarts/actor": 0, "restarts/shard": 0}
    for process in ("actor 0", "actor 1", "actor 1", "shard-0"):
        log.add(process, "signal 9")
    again = RestartLog(tmp_path, ["learner", "actor 0", "actor 1", "shard-0"])
    again.add("learner", "exit code 1")
    assert again.metrics() == {"restarts/learner": 1, "restarts/actor": 3, "restarts/shard": 1}
    assert again.counts["actor 1"] == 2
