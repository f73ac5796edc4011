"""ShardChildren that do not answer: what is said of them, and that they come back."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
import ray

from deploy.distributed.supervisor.shard_children import ShardChildren
from deploy.wiring.config import RunConfig
from deploy.wiring.task import spaces_of
from replay.config import ReplayConfig
from tests.contracts import ray_stores


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShardChildren, list[str], list[str]]]:
    ray_stores.actor()  # Ray is there
    config = RunConfig(task="gym:CartPole-v1", replay=ReplayConfig(store="memory", shards=1, capacity=2000))
    notes, restarted = list[str](), list[str]()
    shards = ShardChildren(
        config, spaces_of(config), tmp_path_factory.mktemp("run"), notes.append, {"cpus": 0},
        lambda name, reason: restarted.append(name),
    )  # fmt: skip
    yield shards, notes, restarted
    shards.store.close()
    for handle in shards.handles:
        ray.kill(handle)


@pytest.fixture
def one(started: tuple[ShardChildren, list[str], list[str]]) -> tuple[ShardChildren, list[str], list[str]]:
    """One shard that answers, what was said, and what was restarted since."""
    started[0].stats()
    started[1].clear()
    started[2].clear()
    return started


def test_a_shard_that_stops_answering_is_no_reason_to_say_that_others_go_on(
    one: tuple[ShardChildren, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, notes, restarted = one
    monkeypatch.setattr("deploy.distributed.supervisor.shard_children.MUTE", 1.0)
    [(_, process)] = shards.processes
    os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(1.1)
        shards.stats()
    finally:
        os.kill(process, signal.SIGCONT)
    [said] = notes
    assert said.startswith("shard-0 has not answered for ") and "processes that need it wait" in said, said
    assert "others" not in said and shards.down == {"shard-0"}
    shards.stats()
    assert notes[1:] == ["shard-0 answers again."] and not shards.down and not restarted


def test_a_shard_that_stays_silent_is_killed_and_counted(
    one: tuple[ShardChildren, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, notes, restarted = one
    monkeypatch.setattr("deploy.distributed.supervisor.shard_children.SILENCE", 1.0)
    monkeypatch.setattr("deploy.distributed.supervisor.shard_children.MUTE", 1000.0)
    [(_, process)] = shards.processes
    os.kill(process, signal.SIGSTOP)
    time.sleep(1.1)
    deadline = time.monotonic() + 60
    while not restarted:
        assert time.monotonic() < deadline, notes
        shards.stats()
    assert "killing and restarting it" in notes[0] and "has restarted with an empty replay" in notes[-1], notes
    assert shards.processes[0][1] != process and restarted == ["shard-0"]
