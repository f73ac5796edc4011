"""Signs of life of a process that works, waits or hangs."""

import time
from pathlib import Path
from typing import Any

import pytest

from deploy.distributed.coordinator import Coordinator
from deploy.distributed.messages import Limits, State
from deploy.distributed.remote import Heartbeat
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations
from tests.integration.runs import wait_for

pytestmark = pytest.mark.timeout(120)


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


def _silence(here: Here) -> float:
    return here.coordinator.news().last_seen["learner"]
