"""Requests through Ray to a run whose coordinator is replaced, or which does not answer."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import ray

from deploy.distributed.cluster.mailbox import KEPT, Mailbox
from deploy.distributed.cluster.remote_control import ClusterRun
from deploy.distributed.coordinator_client import COORDINATOR
from deploy.distributed.remote import ask, start
from deploy.stored.control import RunUnreachableError
from tests.contracts.ray_stores import started
from tests.integration.runs import wait_for


class Coordinators:
    """The mailbox of a run, which can be replaced."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.begin()

    def begin(self) -> bool:
        with suppress(ValueError):  # the name of the one before it is still taken
            self.handle = start(
                "deploy.distributed.cluster.mailbox.Mailbox", cpus=0, threads=0, name=COORDINATOR, namespace="steered"
            )
            ask(self.handle, "show", {"run": "/some/run"})
            return True
        return False

    def take(self) -> str:
        """The name of the request that has come; empty if there is none."""
        return str(next((name for name, _ in ask(self.handle, "take_requests")), ""))

    def replace(self) -> None:
        ray.kill(self.handle)
        wait_for(self.begin, "the name of the coordinator")


@pytest.fixture
def coordinators() -> Iterator[Coordinators]:
    started()
    coordinators = Coordinators()
    yield coordinators
    ray.kill(coordinators.handle)


def test_requests_outlive_the_coordinator_and_are_withdrawn_if_nobody_takes_them(coordinators: Coordinators) -> None:
    run = ClusterRun(ray.get_runtime_context().gcs_address, "some/run")

    def replaced(waited: float) -> None:
        if name := coordinators.take():
            coordinators.replace()
            ask(coordinators.handle, "answer", name, {"actors": [1, 2]})

    assert run.ask({"actors": 2}, 60, replaced) == {"actors": [1, 2]}
    with pytest.raises(RunUnreachableError, match=r"not answered within 0.1 s; the request is withdrawn\."):
        run.ask({"actors": 3}, 0.1)
    assert not ask(coordinators.handle, "take_requests")

    def taken(waited: float) -> None:
        coordinators.take()

    with pytest.raises(RunUnreachableError, match="still carrying out the request"):
        run.ask({"actors": 3}, 3, taken)


def test_answers_that_nobody_fetches_are_kept_up_to_a_number() -> None:
    mailbox = Mailbox()
    for number in range(KEPT + 1):
        mailbox.answer(str(number), {})
    assert mailbox.answered("0") is None and mailbox.answered("1") == {}
