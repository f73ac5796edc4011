"""Snapshots through Ray's object store, from a learner to whoever acts."""

import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray

from deploy.distributed.messages import Published
from deploy.distributed.remote import ask, start
from deploy.distributed.snapshots import SnapshotFetcher, put
from tests.contracts.ray_stores import started
from tests.integration.runs import wait_for
from world_models.snapshot import Snapshot


class Owner:
    """Another process that stores snapshots."""

    def put(self, version: int) -> Published:
        return put(_snapshot(version))

    def process(self) -> int:
        return os.getpid()


@pytest.fixture
def owner() -> Iterator[Any]:
    started()
    handle = start("tests.deploy.distributed.test_snapshots.Owner", cpus=0)
    yield handle
    ray.kill(handle)


def _snapshot(version: int) -> Snapshot:
    buffer = np.full(300_000, version, np.float32)
    return Snapshot(version=version, updates=10 * version, time=0.0, buffer=buffer, checksum=zlib.crc32(buffer.data))


def test_the_newest_snapshot_arrives_whole_and_an_older_one_never_replaces_it(owner: Any) -> None:
    fetcher, published = SnapshotFetcher(), {version: ask(owner, "put", version) for version in (1, 2)}
    assert published[2].snapshot.buffer.size == 0, "the parameters travel by reference"
    fetcher.offer(published[2])
    snapshot = fetcher.wait(1, 60)
    assert snapshot is not None and (snapshot.version, snapshot.updates) == (2, 20)
    np.testing.assert_array_equal(snapshot.buffer, np.full(300_000, 2, np.float32))
    fetcher.offer(published[1])
    fetcher.offer(None)
    assert fetcher.newest(1) is snapshot and fetcher.newest(2) is None and fetcher.wait(2, 0.05) is None


def test_a_damaged_snapshot_is_noted_and_the_next_one_taken(owner: Any) -> None:
    lines: list[str] = []
    fetcher, damaged = SnapshotFetcher(lines.append), ask(owner, "put", 3)
    fetcher.offer(replace(damaged, snapshot=replace(damaged.snapshot, checksum=damaged.snapshot.checksum ^ 1)))
    wait_for(lambda: bool(lines), "the note")
    assert fetcher.newest(-1) is None and lines == [
        "Snapshot 3 was damaged in transit and is not used; waiting for the next one."
    ]
    fetcher.offer(ask(owner, "put", 4))
    snapshot = fetcher.wait(-1, 60)
    assert snapshot is not None and snapshot.version == 4


def test_a_snapshot_whose_owner_died_is_passed_over(owner: Any) -> None:
    lost = ask(owner, "put", 5)
    ray.kill(owner)
    with pytest.raises(ray.exceptions.RayActorError):
        while True:  # it is killed a little later
            ask(owner, "process")
    fetcher = SnapshotFetcher()
    fetcher.offer(lost)
    fetcher.offer(put(_snapshot(6)))
    snapshot = fetcher.wait(5, 100)  # the lost one may still have been there
    assert snapshot is not None and snapshot.version == 6


def test_an_acting_process_never_waits_for_one(owner: Any) -> None:
    fetcher, busy = SnapshotFetcher(), threading.Event()
    fetcher.offer(ask(owner, "put", 7))
    while fetcher.newest(-1) is None:  # what is not here yet is None at once
        assert not busy.wait(0.01)
