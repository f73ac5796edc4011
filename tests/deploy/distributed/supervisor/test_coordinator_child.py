"""A coordinator that dies or hangs is replaced, and everybody goes on with the one that takes its place."""

import contextlib
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.actor import ActorHandle

from deploy.distributed.coordinator_client import COORDINATOR, CoordinatorClient, CoordinatorLostError
from deploy.distributed.messages import ActorReport, Limits, State
from deploy.distributed.remote import Heartbeat, start
from deploy.distributed.supervisor import coordinator_child
from deploy.distributed.supervisor.coordinator_child import CoordinatorChild
from deploy.distributed.supervisor.restart_log import RestartLog
from deploy.distributed.supervisor.restart_policy import RESTARTS
from deploy.run_failed import RunFailedError
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations
from tests.contracts.ray_stores import started
from tests.integration.runs import wait_for


def test_a_coordinator_that_dies_or_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started()

    def begin(state: State) -> ActorHandle:
        limits = Limits(samples_per_insert=1.0, tolerance=600.0, min_size=64 if state.actors == 2 else 99)
        return start(
            "deploy.distributed.coordinator.Coordinator", limits, Incarnations(tmp_path),
            replace(state, replay_size=64), cpus=0, threads=0, name=COORDINATOR,
        )  # fmt: skip

    def report(rows: int) -> ActorReport:
        return ActorReport(worker=0, process=1, rows=rows, frames=rows, version=0)

    notes, log = list[str](), RestartLog(tmp_path, [COORDINATOR])
    one = CoordinatorChild(begin, notes.append, log.add)
    gone = threading.Event()
    handle = CoordinatorClient(gone.is_set)
    beat = Heartbeat(handle, "learner", every=0.05)
    try:
        one.launch(State(counters={"frames": 1000, "updates": 7}, replay_size=0, fleet=Fleet(4, 2), actors=2))
        beat()
        assert handle.ask("report", report(16), 16, 1).verdict == "go"
        one.scale(3, 99)  # sampling has begun, so that the least size stays
        one.set_ratio(2.0, 1100.0)
        one.ask_checkpoint()
        wait_for(lambda: "learner" in one.news().last_seen, "the learner's first beat")
        news = one.news()
        assert news.frames == 1016 and news.last_seen.keys() == {"actor 0", "learner"}

        # An actor waits for its answer while the coordinator dies; what it has reported is not counted again.
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(handle.ask("report", report(64), 999, 50, again=(report(0), 16, 1))),
            daemon=True,
        )
        thread.start()
        wait_for(lambda: one.news().frames == 1080, "the frames of both reports")
        os.kill(news.processes[COORDINATOR], signal.SIGKILL)
        news = one.news()
        assert log.counts[COORDINATOR] == 1
        thread.join(60)
        state = one.news().state
        assert [answer.verdict for answer in answers] == ["go"] and state.actors == 3
        assert state.ratio == (2.0, 1100.0) and state.checkpoint_asked and state.min_size == 64
        assert one.news().frames == 1080 and one.news().updates == 7
        assert "learner" in news.last_seen, "it would be taken for one that starts"
        assert "the coordinator died" in notes[0] and "a new one continues at 1,080 frames, update 7" in notes[0]

        # One that hangs is killed. Signs of life find the next one.
        process = one.news().processes[COORDINATOR]
        os.kill(process, signal.SIGSTOP)
        monkeypatch.setattr(coordinator_child, "SILENCE", 1.0)
        wait_for(lambda: one.news().processes[COORDINATOR] != process, "another coordinator")
        monkeypatch.undo()
        assert log.counts[COORDINATOR] == 2 and not os.path.exists(f"/proc/{process}")
        before = one.news().last_seen["learner"]
        with beat.waiting():
            wait_for(lambda: one.news().last_seen["learner"] < before, "a newer beat")

        # Nobody brings it back: whoever waits is let go.
        process = one.news().processes[COORDINATOR]
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{process}"), "the coordinator's process to end")
        gone.set()
        with pytest.raises(CoordinatorLostError, match="has not answered `counters`"):
            handle.ask("counters")
        one.restarts.failures = RESTARTS
        with pytest.raises(RunFailedError, match="The coordinator failed 6 times in a row"):
            one.news()
    finally:
        with contextlib.suppress(ValueError):  # it is gone
            ray.kill(ray.get_actor(COORDINATOR))
