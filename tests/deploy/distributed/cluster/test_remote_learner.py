"""The learner of a cluster run whose launcher is late."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from deploy.distributed import learner_launcher_client
from deploy.distributed.learner_launcher_client import LOST, RemoteLearner
from deploy.distributed.remote import ask, start
from tests.contracts.ray_stores import started


class LateLauncher:
    """Starts nothing for a long time."""

    def here(self) -> bool:
        return True

    def start(self, *arguments: str) -> int:
        time.sleep(600)
        return 0


@pytest.fixture
def launcher() -> Iterator[Any]:
    started()
    handle = start("tests.deploy.distributed.cluster.test_remote_learner.LateLauncher", cpus=0, threads=2)
    assert ask(handle, "here")
    yield handle
    ray.kill(handle)


def test_a_launcher_that_is_late_is_ended_and_starts_no_second_learner(
    launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_launcher_client, "ANSWER", 0.2)
    assert RemoteLearner(lambda over: launcher).wait(300) == LOST
    with pytest.raises(ray.exceptions.RayActorError):
        ask(launcher, "here", timeout=100)
