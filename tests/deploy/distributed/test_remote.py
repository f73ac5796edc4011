"""Calls of an object in another process, and signs of life of a process that works, waits or hangs."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import ray

from deploy.distributed.coordinator import Coordinator
from deploy.distributed.messages import ActorReport, Limits, Published, State
from deploy.distributed.remote import Heartbeat, ask, start
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations
from tests.contracts.ray_stores import started
from tests.integration.runs import wait_for
from world_models.snapshot import Snapshot

SNAPSHOT = Snapshot(version=0, updates=0, time=0.0, buffer=np.zeros(0, np.float32), checksum=0)


class Here:
    """A coordinator in this process, told things as `CoordinatorClient` tells them."""

    def __init__(self, logdir: Path) -> None:
        limits = Limits(samples_per_insert=1.0, tolerance=1.0, min_size=1)
        state = State(counters={}, replay_size=0, fleet=Fleet(1, 1), actors=1)
        self.coordinator = Coordinator(limits, Incarnations(logdir), state)
        self.beats = self.lost = 0

    def tell(self, method: str, *arguments: Any) -> None:
        if self.lost:
            self.lost -= 1
            raise ConnectionError("the coordinator is away")
        getattr(self.coordinator, method)(*arguments)
        self.beats += 1


def test_a_process_that_waits_is_alive_for_as_long_as_a_wait_may_take(tmp_path: Path) -> None:
    here = Here(tmp_path)
    beat = Heartbeat(here, "learner", every=0.02, longest=1000)  # type: ignore[arg-type]
    with beat.waiting():
        wait_for(lambda: here.beats >= 3, "three beats")
        with beat.waiting():  # a wait within a wait
            before = here.beats
            wait_for(lambda: here.beats >= before + 3, "three more beats")
        beat.longest = 0.1
        wait_for(
            lambda: _silence(here) > 0.5, "no beat for 0.5 s"
        )  # it has waited longer than any wait may take: it hangs
        before = here.beats
        with beat.waiting():
            assert here.beats > before
    beat.longest = 1000
    time.sleep(0.1)
    before = here.beats
    time.sleep(0.3)
    assert here.beats <= before + 1, "a process that neither works nor waits gives no sign of life"


def test_a_beat_that_is_lost_is_followed_by_the_next(tmp_path: Path) -> None:
    here = Here(tmp_path)
    beat = Heartbeat(here, "learner", every=0.02, longest=1000)  # type: ignore[arg-type]
    with beat.waiting():
        here.lost = 3
        wait_for(lambda: not here.lost, "the coordinator to be found again")
        before = here.beats
        wait_for(lambda: here.beats >= before + 3, "three more beats")


def test_calls_that_wait_in_an_event_loop_delay_nobody(tmp_path: Path) -> None:
    """More workers wait for the limiter than any thread pool has threads, and the learner is answered all the same."""
    started()
    limits = Limits(samples_per_insert=1.0, tolerance=20.0, min_size=1)
    state = State(counters={}, replay_size=0, fleet=Fleet(200, 200), actors=200)
    path = "deploy.distributed.coordinator.Coordinator"
    coordinator = start(path, limits, Incarnations(tmp_path), state, cpus=0, threads=0)
    try:
        ask(coordinator, "publish", Published(snapshot=SNAPSHOT, buffer=[]))
        reports = [ActorReport(worker=worker, process=1, rows=0, frames=0, version=1) for worker in range(200)]
        answers: list[Any] = [coordinator.call.remote("report", report, 10, 100.0) for report in reports]
        wait_for(lambda: ask(coordinator, "counters")["inserts"] == 20, "the limiter to hold everybody else back")
        assert ask(coordinator, "sample", 10, 100.0) == "go"
        gone, held = ray.wait(answers, num_returns=3, timeout=200)
        assert {ray.get(answer).verdict for answer in gone} == {"go"} and len(held) == 197
        ask(coordinator, "stop")
        assert {answer.verdict for answer in ray.get(held, timeout=200)} == {"stop"}
    finally:
        ray.kill(coordinator)


def _silence(here: Here) -> float:
    return here.coordinator.news().last_seen["learner"]
